"""go_module: one Go module as a repository."""

load(":command.bzl", "copy_module", "download_module", "vendor_modules")

def _go_module_impl(ctx):
    source = download_module(ctx, ctx.attr.module, ctx.attr.version, ctx.attr.sum)
    copy_module(ctx, source, ctx.attr.module, ctx.attr.version, ctx.attr.sum)
    if ctx.attr.executables:
        # Module archives carry no run bits.
        result = ctx.execute(["sh", "-c", "chmod +x $(find {} -type f)".format(" ".join(ctx.attr.executables))])
        if result.return_code != 0:
            fail("marking {} executable: {}".format(ctx.attr.executables, result.stderr))
    shell_scripts = ctx.execute(["find", ".", "-name", "*.sh", "-exec", "chmod", "+x", "{}", "+"])
    if shell_scripts.return_code != 0:
        fail("marking shell scripts executable: {}".format(shell_scripts.stderr))
    if ctx.attr.vendor:
        vendor_modules(ctx, ctx.attr.module)
    for path, content in ctx.attr.files.items():
        ctx.file(path, content)
    for patch in ctx.attr.patches:
        ctx.patch(patch, strip = 1)

go_module = repository_rule(
    implementation = _go_module_impl,
    doc = "Fetches one Go module and lays out its files as they are: a ruleset, or the Go SDK.",
    attrs = {
        "module": attr.string(mandatory = True, doc = "Module path."),
        "version": attr.string(mandatory = True, doc = "Module version."),
        "sum": attr.string(mandatory = True, doc = "Hash of the module as in go.sum (`h1:…`)."),
        "executables": attr.string_list(doc = "Directories whose files are all programs. Files named *.sh always are."),
        "files": attr.string_dict(doc = "Files to add, path to content."),
        "patches": attr.label_list(doc = "Patches to apply, with one leading path element stripped."),
        "vendor": attr.bool(doc = "Whether to fetch the module's own dependencies into its vendor directory."),
    },
    environ = ["GOPROXY", "GOFLAGS", "GOMODCACHE"],
)
