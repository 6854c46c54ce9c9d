"""LayerInfo: layers of an image."""

LayerInfo = provider(
    doc = "One or more layers, and what the layers above need to know of them.",
    fields = {
        "layers": """list of struct(blob, metadata, mtree, golden): the layers' files, from the lowest to the highest. mtree lists
the layer's content, golden what a golden listing is to have of it: a file, or None.""",
        "state": """File or None: the paths, packages and accounts up to the highest of these layers. None when nothing
above can depend on them.""",
    },
)
