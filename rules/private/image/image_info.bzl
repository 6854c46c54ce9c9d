"""ImageInfo: an image."""

ImageInfo = provider(
    doc = "An image, as files which refer to each other.",
    fields = {
        "bases": "list of File: the manifests of the images below, the lowest first.",
        "config": "File: the image's config.",
        "image_name": "string: the image's name with its tag.",
        "layers": "list of struct(blob, metadata, mtree): all layers, those of the base image first.",
        "manifest": "File: the image's manifest.",
        "own_layers": "list of struct(blob, metadata, mtree): the layers that the base image does not have.",
        "state": "File or None: the paths, packages and accounts of the image, for layers above.",
    },
)
