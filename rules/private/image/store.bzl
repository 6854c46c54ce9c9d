"""image_store and image_unpacked: layers with images as containerd has them once it has unpacked them."""

load(":common.bzl", "COMPRESSION", "EXTENSIONS", "compression", "write_description")
load(":image_info.bzl", "ImageInfo")
load(":layer_info.bzl", "LayerInfo")

ImageStoreInfo = provider(
    doc = "Images in a store.",
    fields = {
        "archives": "list of File: the archives of all images up to here, in the order of their numbers in the store.",
    },
)

# The directory from which on the layers have entries for directories: those above are Debian's.
_UNDER = "/usr/lib/dind-cluster"

_STORE = attr.label(
    default = "//tools/store",
    doc = "The program that does the work.",
    executable = True,
    cfg = "exec",
)

_NAMESPACE = attr.string(
    doc = "containerd's namespace of the images: k8s.io for its CRI plugin, moby for Docker.",
    mandatory = True,
)

def _write_layer(ctx, verb, name, what, arguments, inputs, outputs = []):
    """Makes a layer with a part of a store.

    Args:
      ctx: the rule's context.
      verb: what the program is to do.
      name: the name of the files.
      what: what is put into the layer, for its name and for messages.
      arguments: the arguments which only this verb has.
      inputs: a list of the files they name.
      outputs: a list of the further files that they name as outputs.

    Returns:
      The layer, as in LayerInfo.
    """
    blob = ctx.actions.declare_file(name + EXTENSIONS[compression(ctx)])
    metadata = ctx.actions.declare_file(name + ".layer.json")
    mtree = ctx.actions.declare_file(name + ".mtree")
    args = ctx.actions.args()
    args.add(verb)
    args.add("--path", ctx.attr.path)
    args.add("--under", _UNDER)
    args.add("--namespace", ctx.attr.namespace)
    args.add("--label", "{}: {}".format(str(ctx.label).lstrip("@"), what))
    args.add("--blob", blob)
    args.add("--compression", compression(ctx))
    args.add("--metadata", metadata)
    args.add("--mtree", mtree)
    args.add_all(arguments)
    ctx.actions.run(
        executable = ctx.executable._store,
        arguments = [args],
        inputs = inputs,
        outputs = [blob, metadata, mtree] + outputs,
        mnemonic = "ImageStore",
        progress_message = "Unpacking {} for %{{label}}".format(what),
    )
    return struct(blob = blob, metadata = metadata, mtree = mtree)

def _layer_files(layers):
    return depset([f for layer in layers for f in (layer.blob, layer.metadata, layer.mtree)])

def _image_store_impl(ctx):
    below = ctx.attr.below[ImageStoreInfo].archives if ctx.attr.below else []
    arguments = []
    for archive in below:
        arguments += ["--below", archive]
    if ctx.attr.databases:
        arguments.append("--databases")
    layer = _write_layer(
        ctx,
        "images",
        ctx.label.name,
        "{} images".format(len(ctx.files.archives)),
        arguments + ctx.files.archives,
        below + ctx.files.archives,
    )
    base = ctx.attr.base
    return [
        DefaultInfo(files = _layer_files([layer])),
        OutputGroupInfo(mtree = depset([layer.mtree])),
        ImageStoreInfo(archives = below + ctx.files.archives),
        LayerInfo(layers = [layer], state = base[ImageInfo].state if ImageInfo in base else base[LayerInfo].state),
    ]

image_store = rule(
    implementation = _image_store_impl,
    doc = """Makes a layer with images unpacked: one part of a store, laid out as containerd's root directory.

With copies of the store's databases and links to the rest, containerd has these images as if it had
pulled and unpacked them; containerd's blobs of layers are not in it, as with containerd's
`discard_unpacked_layers`.""",
    attrs = {
        "archives": attr.label_list(
            allow_files = [".tar"],
            doc = "The images, in archives as `docker save` writes them.",
            mandatory = True,
        ),
        "base": attr.label(
            doc = "The image or layer below.",
            mandatory = True,
            providers = [[ImageInfo], [LayerInfo]],
        ),
        "below": attr.label(
            doc = "The `image_store` with the store's other part; what both have in common is not repeated.",
            providers = [ImageStoreInfo],
        ),
        "databases": attr.bool(doc = "Whether this part has the databases, of all parts: so the last one does."),
        "namespace": _NAMESPACE,
        "path": attr.string(
            doc = "The absolute path of this part's directory. The other parts are next to it.",
            mandatory = True,
        ),
        "_compression": COMPRESSION,
        "_store": _STORE,
    },
)

def _list(ctx, layer, number):
    """Lists a layer's files for the layers above it, so that they do not have to read it.

    Args:
      ctx: the rule's context.
      layer: the layer, as in LayerInfo.
      number: which layer of the image it is, from 0.

    Returns:
      The listing's file.
    """
    listing = ctx.actions.declare_file("{}_{}.listing.json".format(ctx.label.name, number))
    args = ctx.actions.args()
    args.add("list")
    args.add("--blob", layer.blob)
    args.add("--metadata", layer.metadata)
    args.add("--output", listing)
    ctx.actions.run(
        executable = ctx.executable._store,
        arguments = [args],
        inputs = [layer.blob, layer.metadata],
        outputs = [listing],
        mnemonic = "ImageListing",
        progress_message = "Listing layer {} for %{{label}}".format(number),
    )
    return listing

def _unpack(ctx, description, image, number, own, listings, usages):
    """Makes a layer with one layer of an image unpacked, and with the files of an own layer, if any.

    Args:
      ctx: the rule's context.
      description: the file with the image's description.
      image: the image's ImageInfo.
      number: which layer of the image, from 0.
      own: the own layer, as in LayerInfo, or None.
      listings: the listings of the layers below it.
      usages: the usages of all other layers of the image, if this one is to have the databases.

    Returns:
      The layer, as in LayerInfo, and the file with its usage.
    """
    name = "{}_{}".format(ctx.label.name, number)
    usage = ctx.actions.declare_file(name + ".usage.json")
    arguments = ["--image", description, "--number", str(number), "--usage", usage]
    inputs = [description, image.config, image.manifest, image.layers[number].blob] + listings + usages
    inputs += [layer.metadata for layer in image.layers]
    what = "layer {} of {}".format(number, image.image_name)
    if own:
        arguments += ["--own-blob", own.blob, "--own-metadata", own.metadata]
        inputs += [own.blob, own.metadata]
        what += ", with " + own.blob.owner.name
    for listing in listings:
        arguments += ["--below", listing]
    for other in usages:
        arguments += ["--with-usage", other]
    return _write_layer(ctx, "layer", name, what, arguments, inputs, [usage]), usage

def _image_unpacked_impl(ctx):
    image = ctx.attr.image[ImageInfo]
    base = ctx.attr.base[ImageInfo]
    last = len(image.layers) - 1

    # Which layer of the image's lies beside which own one. The first ones are the same, as both
    # images have the same base.
    beside = {}
    for i, layer in enumerate(base.layers):
        if i > last or image.layers[i].blob != layer.blob:
            fail("base = {}: it is not the base of {}".format(ctx.attr.base.label, ctx.attr.image.label))
        beside[i] = layer
    numbers = {layer.blob.owner: i for i, layer in enumerate(image.layers)}
    own = []
    state = base.state
    for target, name in ctx.attr.own.items():
        info = target[LayerInfo]
        state = info.state or state
        if not name:
            own += [(None, layer) for layer in info.layers]
            continue
        number = numbers.get(Label(name))
        if number == None:
            fail("own: {} has no layer {}, only {}".format(ctx.attr.image.label, name, ", ".join([str(label) for label in numbers])))
        if number in beside or len(info.layers) != 1:
            fail("own: {} cannot lie beside {}: one layer beside one other".format(target.label, name))
        beside[number] = info.layers[0]
        own.append((number, info.layers[0]))

    description = write_description(ctx, image, ctx.label.name + ".inputs.json")
    listings = [_list(ctx, layer, i) for i, layer in enumerate(image.layers[:last])]
    unpacked, usages = {}, []
    for i in range(len(image.layers)):
        layer, usage = _unpack(ctx, description, image, i, beside.get(i), listings[:i], usages if i == last else [])
        unpacked[i] = layer
        usages.append(usage)

    # First the base, then what lies alone, then what is written often: the order of the own layers.
    moved = [number for number, _ in own]
    layers = [unpacked[i] for i in range(len(image.layers)) if i not in moved]
    layers += [layer if number == None else unpacked[number] for number, layer in own]
    return [
        DefaultInfo(files = _layer_files(layers)),
        OutputGroupInfo(mtree = depset([layer.mtree for layer in layers])),
        LayerInfo(layers = layers, state = state),
    ]

image_unpacked = rule(
    implementation = _image_unpacked_impl,
    doc = """Makes the layers of an image that holds another image unpacked, of which both have the same base.

Each layer holds the files of one own layer and those of one layer of the other image, as containerd
has them once it has unpacked it. Files of the same path that are the same in both lie there once,
as hard links of each other. The layers are all of the outer image: it has no `base` of its own,
since the base's layers are among them, with what the store adds.""",
    attrs = {
        "base": attr.label(doc = "The image that both are built upon.", mandatory = True, providers = [ImageInfo]),
        "image": attr.label(doc = "The image to unpack.", mandatory = True, providers = [ImageInfo]),
        "namespace": _NAMESPACE,
        "own": attr.label_keyed_string_dict(
            doc = """The layers over the base, from the lowest to the highest, each with the label of the image's layer whose files are
to lie in the same layer, or with an empty text.""",
            providers = [LayerInfo],
        ),
        "path": attr.string(doc = "The absolute path of the store's directory.", mandatory = True),
        "_compression": COMPRESSION,
        "_store": _STORE,
    },
)
