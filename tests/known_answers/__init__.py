"""Problems whose answers others have published."""
