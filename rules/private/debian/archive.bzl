"""debian_archive: a directory of one Debian package as a repository."""

load(":download.bzl", "download_package", "read_lock")

def _debian_archive_impl(ctx):
    packages = read_lock(ctx, ctx.attr.lock)
    if ctx.attr.package not in packages:
        fail("{}: package {} is not in {}".format(ctx.name, ctx.attr.package, ctx.attr.lock))
    download_package(ctx, ctx.attr.lock, packages[ctx.attr.package], "package.deb")
    ctx.extract("package.deb", output = "deb")
    data = [f for f in ctx.path("deb").readdir() if f.basename.startswith("data.tar")]
    ctx.extract(data[0], output = "data")
    root = ctx.path("data/" + ctx.attr.strip_prefix)
    if not root.exists:
        fail("{}: {} has no directory {}".format(ctx.name, ctx.attr.package, ctx.attr.strip_prefix))

    # tar, not cp: some packages hold links that lead out of the directory.
    result = ctx.execute(["sh", "-c", 'tar -C "$1" -c . | tar -x', "sh", str(root)])
    if result.return_code != 0:
        fail("laying out {}: {}".format(ctx.attr.package, result.stderr))
    ctx.delete("package.deb")
    ctx.delete("deb")
    ctx.delete("data")
    for patch in ctx.attr.patches:
        ctx.patch(patch, strip = 1)

debian_archive = repository_rule(
    implementation = _debian_archive_impl,
    doc = "Lays out a directory of one locked Debian package as a repository.",
    attrs = {
        "lock": attr.label(mandatory = True, doc = "The lock that names the package."),
        "package": attr.string(mandatory = True, doc = "Name of the package."),
        "strip_prefix": attr.string(doc = "Directory inside the package that becomes the repository's root."),
        "patches": attr.label_list(doc = "Patches to apply, with one leading path element stripped."),
    },
)
