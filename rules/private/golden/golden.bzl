"""golden_test and golden_update: what is in layers, held against listings that a reviewer reads as a diff."""

load("//rules/private/image:image_info.bzl", "ImageInfo")

GoldenInfo = provider(
    doc = "Goldens to write.",
    fields = {
        "goldens": "list of dicts: what tools/golden is to do.",
        "listings": "list of File: what it reads.",
    },
)

def _listings(target):
    """The listings of the layers that a target makes, those of an image's base not among them."""
    if ImageInfo in target:
        return [layer.mtree for layer in target[ImageInfo].own_layers]
    return _all_listings(target)

def _all_listings(target):
    if OutputGroupInfo not in target or not hasattr(target[OutputGroupInfo], "mtree"):
        fail("{} is neither an image nor a layer".format(target.label))
    return target[OutputGroupInfo].mtree.to_list()

def _golden(ctx, listings, known):
    return {
        "path": ctx.attr.path,
        "listings": [f.short_path for f in listings],
        # A layer's name is that of the target that made the listing.
        "known": [{"layer": str(f.owner).lstrip("@"), "listing": f.short_path} for f in known],
        "ignoreContent": ctx.attr.ignore_content,
        "count": ctx.attr.count,
        "updateCommand": "scripts/bazel run {}.update".format(ctx.attr.test),
    }

def _run(ctx, goldens, files, update):
    spec = ctx.actions.declare_file(ctx.label.name + ".spec.json")
    ctx.actions.write(spec, json.encode_indent({"goldens": goldens, "update": update}))
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = executable, target_file = ctx.executable._golden, is_executable = True)
    return [
        DefaultInfo(executable = executable, runfiles = ctx.runfiles([spec] + files)),
        RunEnvironmentInfo(environment = {"GOLDEN_SPEC": spec.short_path}),
    ]

def _inputs(ctx):
    listings = [f for target in ctx.attr.of for f in _listings(target)]
    known = [f for target in ctx.attr.known for f in _all_listings(target)]
    return _golden(ctx, listings, known), listings + known

def _test_impl(ctx):
    golden, files = _inputs(ctx)
    return _run(ctx, [golden], [ctx.file.golden] + files, update = False)

def _update_impl(ctx):
    golden, files = _inputs(ctx)
    return _run(ctx, [golden], files, update = True) + [GoldenInfo(goldens = [golden], listings = files)]

_GOLDEN = attr.label(default = "//tools/golden", doc = "The program that is run.", executable = True, cfg = "target")

_ATTRS = {
    "count": attr.string_list(doc = "Patterns of absolute paths of directories, of whose content only the number of files is listed."),
    "ignore_content": attr.string_list(doc = "Patterns of absolute paths whose size and checksum are not listed."),
    "known": attr.label_list(doc = "Images and layers that have goldens of their own."),
    "of": attr.label_list(doc = "Images and layers.", mandatory = True),
    "path": attr.string(doc = "The golden's path in the workspace.", mandatory = True),
    "test": attr.string(doc = "The test's label, for messages.", mandatory = True),
    "_golden": _GOLDEN,
}

_golden_test = rule(
    implementation = _test_impl,
    doc = "Compares layers with a golden listing.",
    attrs = _ATTRS | {
        "golden": attr.label(allow_single_file = True, doc = "The golden, the file at `path`.", mandatory = True),
    },
    test = True,
)

# Its golden is no input: it need not be there yet.
_golden_write = rule(
    implementation = _update_impl,
    doc = "Writes the golden of a test.",
    attrs = _ATTRS,
    executable = True,
)

def golden_test(name, of, golden, known = [], ignore_content = [], count = [], size = "small", tags = [], **kwargs):
    """Compares the files of layers with a golden listing, so that a reviewer sees what a change does to images.

    `bazel run NAME.update` writes the golden. It is in the format of mtree(5): one line for each
    path of each layer, with what is not so of most files: type, mode, owner, size, the first digits
    of the checksum, extended attributes.

    All layers have a golden, those of stores of unpacked images as well, which would be the longest
    of all: a store in dind-cluster has the files of the whole of dind-node, again, and dind-node
    those of all components. What matters there is that a store's directory has exactly the files of
    some layer. So a layer that lies in a directory file for file, with the same modes, owners and
    contents, is one line there, `./DIR/* layer=LABEL`; its files are listed once, in the golden of
    that layer. Listed besides are the directories that the store made, and whatever is not as in
    any layer. This is worked out from whole listings, so it also covers contents that no golden has
    (`ignore_content`).

    Args:
      name: the test.
      of: images and layers: `image`, `image_layer`, `image_store`, `image_unpacked`,
        `component_layer`. Of an image only the layers above its base image count.
      golden: the golden, a file of this package.
      known: images and layers that have goldens of their own. Where a directory of a layer here has
        all that one of them has, the golden names it.
      ignore_content: patterns of absolute paths of which neither size nor checksum is listed:
        programs that every edit changes. A star matches slashes too.
      count: patterns of absolute paths of directories of which only the number of files is listed:
        those whose files are named by their digests, for example.
      size: the test's size.
      tags: tags of the test.
      **kwargs: further attributes of both targets: visibility …
    """
    attributes = dict(
        of = of,
        count = count,
        ignore_content = ignore_content,
        known = known,
        path = native.package_name() + "/" + golden,
        test = "//{}:{}".format(native.package_name(), name),
        **kwargs
    )
    _golden_test(
        name = name,
        golden = golden,
        size = size,
        tags = tags,
        **attributes
    )
    _golden_write(
        name = name + ".update",
        tags = tags + ["manual"],
        **attributes
    )

def _golden_update_impl(ctx):
    infos = [target[GoldenInfo] for target in ctx.attr.of]
    goldens = [golden for info in infos for golden in info.goldens]
    files = [f for info in infos for f in info.listings]
    return _run(ctx, goldens, files, update = True) + [GoldenInfo(goldens = goldens, listings = files)]

golden_update = rule(
    implementation = _golden_update_impl,
    doc = "`bazel run NAME` writes the goldens of several tests.",
    attrs = {
        "of": attr.label_list(
            doc = "The tests' targets `NAME.update`, or targets of this rule.",
            mandatory = True,
            providers = [GoldenInfo],
        ),
        "_golden": _GOLDEN,
    },
    executable = True,
)
