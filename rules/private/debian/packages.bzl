"""debian_packages: the packages of one lock, each fetched when it is first needed."""

load(":download.bzl", "download_package", "read_lock")

def _debian_package_impl(ctx):
    package = json.decode(ctx.attr.package)
    file = package["name"] + ".deb"
    download_package(ctx, ctx.attr.lock, package, file)
    ctx.file("BUILD.bazel", 'exports_files(["{}"], visibility = ["//visibility:public"])\n'.format(file))

debian_package = repository_rule(
    implementation = _debian_package_impl,
    doc = "Downloads one locked .deb file. `debian_packages` declares it.",
    attrs = {
        "lock": attr.label(mandatory = True, doc = "The lock that names the package, for messages."),
        "package": attr.string(mandatory = True, doc = "The lock's entry, as JSON."),
    },
)

def _repository_name(hub, package):
    # A repository's name cannot contain a plus sign.
    return hub + "__" + package.replace("+", "p")

def _debian_packages_impl(ctx):
    packages = read_lock(ctx, ctx.attr.lock)
    build = ['package(default_visibility = ["//visibility:public"])\n', 'exports_files(["packages.bzl"])\n']
    calls = []
    for name, package in packages.items():
        repository = _repository_name(ctx.name, name)
        build.append('alias(\n    name = "{}",\n    actual = "@{}//:{}.deb",\n)\n'.format(name, repository, name))
        calls.append("    debian_package(\n        name = {},\n        lock = {},\n        package = {},\n    )\n".format(
            repr(repository),
            repr(str(ctx.attr.lock)),
            repr(json.encode(package)),
        ))
    ctx.file("BUILD.bazel", "\n".join(build))
    ctx.file("packages.bzl", '''"""The packages of {lock}."""

load("@{workspace}//rules:debian.bzl", "debian_package")

# Labels of all packages, sorted by name.
PACKAGES = [
{labels}]

# Version of each package.
VERSIONS = {{
{versions}}}

def debian_package_repositories():
    """Declares one repository per package; call it from WORKSPACE."""
{calls}'''.format(
        lock = ctx.attr.lock,
        workspace = ctx.attr.lock.workspace_name,
        labels = "".join(['    "@{}//:{}",\n'.format(ctx.name, name) for name in packages]),
        versions = "".join(["    {}: {},\n".format(repr(p["name"]), repr(p["version"])) for p in packages.values()]),
        calls = "".join(calls),
    ))

debian_packages = repository_rule(
    implementation = _debian_packages_impl,
    doc = """Declares the packages of a lock.

`@NAME//:PACKAGE` is the .deb file of a package. `@NAME//:packages.bzl` offers `PACKAGES`, the
labels of all of them, and `debian_package_repositories()`, which WORKSPACE calls.""",
    attrs = {
        "lock": attr.label(mandatory = True, doc = "The lock, as `scripts/lock debian` writes it."),
    },
)
