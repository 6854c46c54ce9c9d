"""image_layer: one layer."""

load(":build_layer.bzl", "build_layer")
load(":common.bzl", "COMPRESSION", "IMAGER", "compression")
load(":image_info.bzl", "ImageInfo")
load(":layer_info.bzl", "LayerInfo")

def _state_below(base):
    if not base:
        return None
    if ImageInfo in base:
        state = base[ImageInfo].state
    else:
        state = base[LayerInfo].state
    if not state:
        fail("base = {}: layers there do not tell what is in them; put this layer below them".format(base.label))
    return state

def _program(target):
    """Returns the program that `bazel run` starts; None for a plain file, which Bazel takes for one too."""
    run = target[DefaultInfo].files_to_run
    return run.executable if run.runfiles_manifest else None

def _file_specs(ctx):
    specs = []
    modes = dict(ctx.attr.modes)
    for target, dest in ctx.attr.files.items():
        files = target[DefaultInfo].files.to_list()
        if not dest.startswith("/"):
            fail("files: {} of {} is not an absolute path".format(repr(dest), target.label))
        if not dest.endswith("/") and len(files) != 1:
            fail("files: {} is {} files; end {} with a slash to put them all into a directory".format(target.label, len(files), repr(dest)))
        for file in files:
            path = dest + file.basename if dest.endswith("/") else dest
            mode = "0755" if file == _program(target) else "0644"
            specs.append({
                "source": file.path,
                "path": path,
                # Of a directory's files each keeps what it is.
                "mode": modes.pop(path, "" if file.is_directory else mode),
                "label": str(target.label),
            })
    if modes:
        fail("modes: no file of this layer is at {}".format(", ".join(modes.keys())))
    return specs

def _image_layer_impl(ctx):
    built = build_layer(
        ctx,
        name = str(ctx.label).lstrip("@"),
        files = _file_specs(ctx),
        inputs = ctx.files.files,
        debs = ctx.files.debs,
        declarations = ctx.files.declarations,
        below = _state_below(ctx.attr.base),
        compression = ctx.attr.compression or compression(ctx),
    )
    layer = struct(blob = built.blob, metadata = built.metadata, mtree = built.mtree)
    return [
        DefaultInfo(files = depset([built.blob, built.metadata, built.mtree])),
        OutputGroupInfo(blob = depset([built.blob]), mtree = depset([built.mtree])),
        LayerInfo(layers = [layer], state = built.state),
    ]

image_layer = rule(
    implementation = _image_layer_impl,
    doc = """Makes one layer of Debian packages, files and links.

The layer's bytes depend on its inputs alone: its entries are sorted, have numeric owners, root's
unless something says otherwise, and a fixed time. Packages are unpacked without running their
scripts, so each script's effects are declared, and a script that is not acknowledged fails the
build. So do two sources of different content for one path.""",
    attrs = {
        "base": attr.label(
            doc = "The image or layer below: its packages, accounts and links are built upon, and clashes with it are found.",
            providers = [[ImageInfo], [LayerInfo]],
        ),
        "compression": attr.string(
            doc = "How the blob is compressed, where it is not as the flag //rules:compression says.",
            values = ["", "gzip", "none", "zstd"],
        ),
        "debs": attr.label_list(
            allow_files = [".deb"],
            doc = "Debian packages to unpack. Their order does not matter.",
        ),
        "declarations": attr.label_list(
            allow_files = [".yaml", ".json"],
            doc = "Effects of the packages' maintainer scripts, as data (see image/declare).",
        ),
        "files": attr.label_keyed_string_dict(
            allow_files = True,
            doc = """Where files go: a target to an absolute path. One that ends with a slash is a directory, for all files of
the target. A directory's content goes to the path itself.""",
        ),
        "modes": attr.string_dict(
            doc = "Octal modes of files by path, where they are not 0755 for executables and 0644 otherwise.",
        ),
        "symlinks": attr.string_dict(doc = "Symbolic links to make: an absolute path to what it links to."),
        "_compression": COMPRESSION,
        "_imager": IMAGER,
    },
)
