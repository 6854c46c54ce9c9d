"""Environment and tags of tests that start a Bazel of their own with package elsewhere."""

# Variables from which Bazel and its repository rules take the user, proxies and mirrors.
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
