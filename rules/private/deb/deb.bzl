"""deb: a Debian package around programs of one upstream, made with rules_pkg."""

load("@rules_pkg//pkg:deb.bzl", "pkg_deb")
load("@rules_pkg//pkg:mappings.bzl", "pkg_attributes", "pkg_files", "pkg_mkdirs")
load("@rules_pkg//pkg:tar.bzl", "pkg_tar")

_MAINTAINER = "The dind-cluster authors <dind-cluster@users.noreply.github.com>"

# The date in the changelog and of all files: fixed, so that a package depends on its contents only,
# and not 1970, which tar and lintian take for a mistake. It is the day on which the packaging was
# written.
_DATE = 1790812800  # 2026-10-01

_ARCHITECTURE = "amd64"

# Upstream's version with a Debian revision.
_VERSION = "$(BARE_VERSION)-1"

def _version_file_impl(ctx):
    out = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.write(out, ctx.expand_make_variables("text", ctx.attr.text, {}))
    return [DefaultInfo(files = depset([out]))]

_version_file = rule(
    implementation = _version_file_impl,
    doc = "Writes a text with the make variables of its toolchains filled in.",
    attrs = {"text": attr.string(mandatory = True, doc = "The text.")},
)

def _canonical_impl(ctx):
    version = ctx.expand_make_variables("version", ctx.attr.version, {})
    out = ctx.actions.declare_file("{}_{}_{}.deb".format(ctx.attr.package, version, _ARCHITECTURE))
    args = ctx.actions.args()
    args.add("-in", ctx.file.deb)
    args.add("-out", out)
    args.add("-changelog", ctx.file._changelog)
    args.add("-mtime", _DATE)
    ctx.actions.run(
        executable = ctx.executable._canonical,
        arguments = [args],
        inputs = [ctx.file.deb, ctx.file._changelog],
        outputs = [out],
        mnemonic = "CanonicalDeb",
        progress_message = "Writing %{output}",
    )
    return [DefaultInfo(files = depset([out]))]

_canonical = rule(
    implementation = _canonical_impl,
    doc = "Writes a package of pkg_deb anew, as PACKAGE_VERSION_ARCHITECTURE.deb.",
    attrs = {
        "deb": attr.label(mandatory = True, allow_single_file = [".deb"], doc = "The package as pkg_deb wrote it."),
        "package": attr.string(mandatory = True, doc = "Name of the package."),
        "version": attr.string(mandatory = True, doc = "Its version, with make variables."),
        "_canonical": attr.label(
            default = "//tools/canonicaldeb",
            doc = "The program that does the work.",
            executable = True,
            cfg = "exec",
        ),
        "_changelog": attr.label(
            default = "//rules/private/deb:changelog",
            doc = "The Debian changelog, with marks for what is the package's own.",
            allow_single_file = True,
        ),
    },
)

def deb(
        name,
        program,
        description,
        homepage,
        copyright,
        package = None,
        programs = {},
        files = {},
        directories = [],
        lintian_overrides = None,
        section = "admin",
        tags = [],
        visibility = None,
        **kwargs):
    """Makes a Debian package.

    pkg_deb puts it together; then it is written anew, byte for byte the same on every machine, with
    a Debian changelog, md5sums and Installed-Size. The file is named as dpkg wants it:
    NAME_VERSION_ARCHITECTURE.deb.

    Args:
      name: name of the target.
      program: the `go_program` whose upstream version is the package's.
      description: synopsis and, on further lines, the longer text.
      homepage: upstream's page.
      copyright: the package's copyright file.
      package: name of the package; default: the target's.
      programs: absolute path to label, for files with mode 0755.
      files: absolute path to label, for files with mode 0644.
      directories: absolute paths of empty directories.
      lintian_overrides: file of lintian tags that are meant, with reasons.
      section: archive section.
      tags: tags of the target and of all that it is made with.
      visibility: visibility of the package.
      **kwargs: further attributes of pkg_deb: depends, conffiles, postinst …
    """
    package = package or name
    doc = {"/usr/share/doc/{}/copyright".format(package): copyright}
    if lintian_overrides:
        doc["/usr/share/lintian/overrides/" + package] = lintian_overrides
    parts = []
    for part, mode, content in [("programs", "0755", programs), ("files", "0644", files | doc)]:
        if not content:
            continue
        pkg_files(
            name = "{}_{}".format(name, part),
            srcs = content.values(),
            attributes = pkg_attributes(mode = mode),
            renames = {label: path.removeprefix("/") for path, label in content.items()},
            tags = tags,
            visibility = ["//visibility:private"],
        )
        parts.append("{}_{}".format(name, part))
    if directories:
        pkg_mkdirs(
            name = name + "_directories",
            attributes = pkg_attributes(mode = "0755"),
            dirs = [d.removeprefix("/") for d in directories],
            tags = tags,
            visibility = ["//visibility:private"],
        )
        parts.append(name + "_directories")
    pkg_tar(
        name = name + "_data",
        srcs = parts,
        tags = tags,
        visibility = ["//visibility:private"],
    )

    _version_file(
        name = name + "_version",
        tags = tags,
        text = _VERSION,
        toolchains = [program],
        visibility = ["//visibility:private"],
    )
    pkg_deb(
        name = name + "_parts",
        architecture = _ARCHITECTURE,
        data = name + "_data",
        description = description,
        homepage = homepage,
        maintainer = _MAINTAINER,
        package = package,
        priority = "optional",
        section = section,
        tags = tags,
        version_file = name + "_version",
        visibility = ["//visibility:private"],
        **kwargs
    )
    _canonical(
        name = name,
        deb = name + "_parts",
        package = package,
        tags = tags,
        toolchains = [program],
        version = _VERSION,
        visibility = visibility,
    )
