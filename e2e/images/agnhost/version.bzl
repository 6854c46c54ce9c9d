"""The version of agnhost's image."""

# VERSION in test/images/agnhost of the locked Kubernetes, which e2e.test asks for.
AGNHOST_VERSION = "2.66.1"
