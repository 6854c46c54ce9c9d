"""build_layer: the action that makes a layer, for image_layer and component_layer."""

load(":common.bzl", "EXTENSIONS")

def build_layer(ctx, name, files, inputs, debs, declarations, below, compression, tars = []):
    """Makes a layer with imager.

    Args:
      ctx: the context of a rule with the attributes symlinks and _imager.
      name: name of the layer, in its listing and in messages.
      files: a list of dicts with source, path, mode and label, one for each file to put into the
        layer.
      inputs: a list of Files: the sources of files.
      debs: a list of Files: the packages to unpack.
      declarations: a list of Files: what to take from the packages, and what their scripts would
        do.
      below: File or None: the state of the layer below.
      compression: zstd, gzip or none.
      tars: a list of Files: archives whose entries are taken as they are.

    Returns:
      A struct of Files: blob (a tar archive), metadata, mtree (its listing), and state (what layers
      above need to know).
    """
    spec = ctx.actions.declare_file(ctx.label.name + ".spec.json")
    ctx.actions.write(spec, json.encode_indent({
        "name": name,
        "debs": [f.path for f in debs],
        "declarations": [f.path for f in declarations],
        "files": files,
        "symlinks": [{"path": path, "target": target} for path, target in ctx.attr.symlinks.items()],
        "tars": [f.path for f in tars],
        "below": below.path if below else "",
        "compression": compression,
    }))
    blob = ctx.actions.declare_file(ctx.label.name + EXTENSIONS[compression])
    metadata = ctx.actions.declare_file(ctx.label.name + ".layer.json")
    mtree = ctx.actions.declare_file(ctx.label.name + ".mtree")
    state = ctx.actions.declare_file(ctx.label.name + ".state")
    args = ctx.actions.args()
    args.add("layer")
    args.add("--spec", spec)
    args.add("--blob", blob)
    args.add("--metadata", metadata)
    args.add("--mtree", mtree)
    args.add("--state", state)
    ctx.actions.run(
        executable = ctx.executable._imager,
        arguments = [args],
        inputs = [spec] + debs + declarations + inputs + tars + ([below] if below else []),
        outputs = [blob, metadata, mtree, state],
        mnemonic = "ImageLayer",
        progress_message = "Building image layer %{label}",
    )
    return struct(blob = blob, metadata = metadata, mtree = mtree, state = state)
