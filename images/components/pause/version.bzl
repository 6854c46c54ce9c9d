"""The version of the pause image."""

# TAG in build/pause/Makefile of the locked Kubernetes. //images/components:images_test holds it
# against kubeadm.
PAUSE_VERSION = "3.10.2"
