"""debian_root: a throw-away Debian root for tests."""

def _debian_root_impl(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".tar")
    args = ctx.actions.args()
    args.add(out)
    args.add_all(ctx.files.packages)
    ctx.actions.run(
        executable = ctx.executable._root,
        arguments = [args],
        inputs = ctx.files.packages,
        outputs = [out],
        mnemonic = "DebianRoot",
        progress_message = "Laying out %{output}",
    )
    return [DefaultInfo(files = depset([out]))]

debian_root = rule(
    implementation = _debian_root_impl,
    doc = """Lays packages out as a tar archive of a root, with dpkg's database, without running their scripts.

Documentation, translations and the like are left out. It is for tests: images are made by tools/imager.""",
    attrs = {
        "packages": attr.label_list(mandatory = True, allow_files = [".deb"], doc = "The packages, dependencies included."),
        "_root": attr.label(
            default = "//tools/debianroot",
            doc = "The program that does the work.",
            executable = True,
            cfg = "exec",
        ),
    },
)
