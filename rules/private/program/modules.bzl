"""modules_aspect: the Go modules that the packages of a program come from."""

load("@rules_license//rules:providers.bzl", "PackageInfo")

ModulesInfo = provider(
    doc = "The modules of a target and of everything below it.",
    fields = {"modules": "depset of struct(repository, path, version)"},
)

def _modules_aspect_impl(target, ctx):
    # The name of the attribute that a repository's default_package_metadata fills has changed over
    # Bazel's releases.
    metadata = getattr(ctx.rule.attr, "package_metadata", None) or getattr(ctx.rule.attr, "applicable_licenses", None) or []
    direct = []
    for dep in metadata:
        if PackageInfo in dep:
            # Gazelle writes the version without its v.
            direct.append(struct(
                repository = target.label.repo_name,
                path = dep[PackageInfo].package_name,
                version = "v" + dep[PackageInfo].package_version,
            ))

    transitive = []
    for name in ("deps", "embed"):
        for dep in getattr(ctx.rule.attr, name, None) or []:
            if ModulesInfo in dep:
                transitive.append(dep[ModulesInfo].modules)
    return [ModulesInfo(modules = depset(direct, transitive = transitive))]

modules_aspect = aspect(
    implementation = _modules_aspect_impl,
    attr_aspects = ["deps", "embed"],
    doc = "Collects the module that each Go target says it is from: the one its repository was fetched as.",
)
