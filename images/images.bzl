"""The images that are shipped, and what all of them say about themselves."""

load("//:version.bzl", PROJECT_VERSION = "VERSION")

# The images, the lowest first, and the directories that they are made in.
IMAGES = {
    "dind-base": "base",
    "dind-node": "node",
    "dind-cluster": "cluster",
    "dind-e2e": "e2e",
}

# All licences that the Debian packages' copyright files declare and SPDX has a name for;
# //images:sbom_test holds the list against the bills of materials. The last one stands for all
# others: theirs are in /usr/share/doc/PACKAGE/copyright and, of Go modules, in the modules.
_LICENSES = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-SA-4.0",
    "GFDL-1.3-no-invariants-only",
    "GPL-1.0-only",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "GPL-3.0-or-later WITH Bison-exception-2.2",
    "ISC",
    "LGPL-2.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-or-later",
    "MIT",
    "MPL-2.0",
    "Zlib",
    "LicenseRef-other",
]

def annotations(description, kubernetes = None, role = None):
    """Returns what an image says about itself, besides its name and version.

    Args:
      description: what the image is, in one sentence.
      kubernetes: the version of Kubernetes in it, if any: v1.37.2.
      role: "cluster" if a container of it is a whole cluster: by this the launcher knows clusters
        that something else started, too.

    Returns:
      The annotations, for `image`.
    """
    all = {
        "dind-cluster.version": PROJECT_VERSION,
        "org.opencontainers.image.description": description,
        "org.opencontainers.image.licenses": " AND ".join(_LICENSES),
        "org.opencontainers.image.source": "https://github.com/dind-cluster/dind-cluster",
        "org.opencontainers.image.vendor": "dind-cluster",
    }
    if kubernetes:
        all["dind-cluster.kubernetes-version"] = kubernetes
    if role:
        all["dind-cluster.role"] = role
    return all
