"""The layers that the images of the components are made of."""

# Their targets are NAME_layer.
LAYERS = [
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-proxy_tools",
    "kube-scheduler",
    "kubernetes",
    "local-path-provisioner",
    "metrics-server",
    "pause",
    "static",
]
