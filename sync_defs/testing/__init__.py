"""What a project that uses the library may use in its own tests, such as the demo ERP in ``demo_erp``."""
