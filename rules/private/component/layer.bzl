"""component_layer: the files of a layer as an uncompressed tar archive."""

load("//rules/private/image:build_layer.bzl", "build_layer")
load("//rules/private/image:common.bzl", "IMAGER")

ComponentLayerInfo = provider(
    doc = "What a layer above needs to know of a layer.",
    fields = {"state": "File: the files and packages up to this layer, for tools/imager."},
)

# security.capability with CAP_NET_BIND_SERVICE permitted and effective (capabilities(7), struct
# vfs_cap_data, version 2).
_CAPABILITIES = {
    "cap_net_bind_service=ep": "01000002" + "00040000" + "00000000" + "00000000" + "00000000",
}

def _json_string(hex):
    """Returns a JSON string of the bytes, all of them below 0x80, that hex stands for."""
    return '"' + "".join(["\\u00" + hex[i:i + 2] for i in range(0, len(hex), 2)]) + '"'

def _component_layer_impl(ctx):
    inputs = []
    files = []
    for target, path in ctx.attr.files.items():
        sources = target.files.to_list()
        if len(sources) != 1:
            fail("{}: {} is not one file".format(path, target.label))
        inputs.append(sources[0])
        files.append({
            "source": sources[0].path,
            "path": path,
            "mode": ctx.attr.modes.get(path, "0755"),
            "label": str(target.label),
        })
    for path in ctx.attr.modes:
        if path not in ctx.attr.files.values():
            fail("modes: the layer has no {}".format(path))

    declarations = list(ctx.files.declarations)
    if ctx.attr.capabilities:
        capabilities = ctx.actions.declare_file(ctx.label.name + ".capabilities.json")
        ctx.actions.write(capabilities, '{{"attributes": [{}]}}\n'.format(", ".join([
            '{{"path": {}, "xattrs": {{"security.capability": {}}}}}'.format(json.encode(path), _json_string(_CAPABILITIES[value]))
            for path, value in ctx.attr.capabilities.items()
        ])))
        declarations.append(capabilities)

    built = build_layer(
        ctx,
        name = ctx.label.name,
        files = files,
        inputs = inputs,
        debs = ctx.files.packages,
        declarations = declarations,
        tars = ctx.files.tars,
        below = ctx.attr.below[ComponentLayerInfo].state if ctx.attr.below else None,
        compression = "none",
    )
    return [
        DefaultInfo(files = depset([built.blob])),
        OutputGroupInfo(mtree = depset([built.mtree])),
        ComponentLayerInfo(state = built.state),
    ]

component_layer = rule(
    implementation = _component_layer_impl,
    doc = """Makes a layer: NAME.tar, and NAME.mtree (output group `mtree`), a listing of it for a golden.

The layer depends on its inputs alone: entries are sorted, owned by root, and from the start of 1970.""",
    attrs = {
        "below": attr.label(providers = [ComponentLayerInfo], doc = "The layer below, when packages or links in it matter to this one."),
        "files": attr.label_keyed_string_dict(allow_files = True, doc = "File to absolute path."),
        "modes": attr.string_dict(doc = "Octal modes of files, by path; 0755 else."),
        "capabilities": attr.string_dict(doc = "File capabilities, by path, in the notation of setcap."),
        "symlinks": attr.string_dict(doc = "Symbolic links: path to target."),
        "packages": attr.label_list(allow_files = [".deb"], doc = "Debian packages to unpack."),
        "declarations": attr.label_list(
            allow_files = [".yaml"],
            doc = "What to take from the packages, and the effects of their maintainer scripts (see image/declare).",
        ),
        "tars": attr.label_list(allow_files = [".tar"], doc = "Archives whose entries are taken as they are."),
        "_imager": IMAGER,
    },
)
