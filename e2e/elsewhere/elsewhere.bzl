"""What a test needs that starts a Bazel of its own, as package elsewhere does."""

# What tells Bazel and its repository rules of the user, of proxies and of mirrors.
ENVIRONMENT = [
    "APT_ETC",
    "DEBIAN_MIRROR",
    "DEBIAN_SECURITY_MIRROR",
    "GOFLAGS",
    "GOMODCACHE",
    "GONOPROXY",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "USER",
    "XDG_CACHE_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
]

# It needs the machine for itself, and takes minutes and a lot of disk: on request only.
TAGS = [
    "exclusive",
    "local",
    "manual",
    "no-cache",
    "no-remote",
    "no-sandbox",
]
