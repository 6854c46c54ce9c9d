"""image_sbom: what an image is made of, as SPDX."""

load("@io_bazel_rules_go//go:def.bzl", "GoArchive")
load("//rules/private/program:modules.bzl", "ModulesInfo", "modules_aspect")
load(":common.bzl", "image_files", "write_description")
load(":image_info.bzl", "ImageInfo")

# The module that this workspace is, as go.mod has it.
_MODULE = "github.com/dind-cluster/dind-cluster"

# Who made the images, and the Debian packages that no lock has.
_VENDOR = "dind-cluster"

def _module_list(target):
    """Returns what the go command would embed in a program of this workspace; rules_go leaves it out.

    Args:
      target: the program.

    Returns:
      The text that `go version -m` would show.
    """
    known = {m.repository: m for m in target[ModulesInfo].modules.to_list()}
    linked = {}
    for package in target[GoArchive].transitive.to_list():
        repository = package.label.repo_name
        if repository in known:
            module = known[repository]
            linked[module.path] = module.version
        elif repository:
            fail("{} links {}, and its repository @{} does not say which module it is".format(target.label, package.label, repository))
    lines = ["path\t{}/{}".format(_MODULE, target.label.package), "mod\t{}\t(devel)".format(_MODULE)]
    lines += ["dep\t{}\t{}".format(path, version) for path, version in sorted(linked.items())]
    return "".join([line + "\n" for line in lines])

def _image_sbom_impl(ctx):
    info = ctx.attr.image[ImageInfo]
    description = write_description(ctx, info, ctx.label.name + ".inputs.json")
    document = ctx.actions.declare_file(ctx.attr.image.label.name + ".spdx.json")
    inputs = [description] + image_files(info) + ctx.files.locks

    args = ctx.actions.args()
    args.add("--image", description)
    args.add_all(ctx.files.locks, before_each = "--lock")
    args.add("--vendor", _VENDOR)
    for i, target in enumerate(ctx.attr.programs):
        modules = ctx.actions.declare_file("{}.{}.modules".format(ctx.label.name, i))
        ctx.actions.write(modules, _module_list(target))
        executable = target[DefaultInfo].files_to_run.executable
        args.add_joined("--program", [executable, modules], join_with = "=")
        inputs += [executable, modules]
    args.add("--output", document)
    ctx.actions.run(
        executable = ctx.executable._sbom,
        arguments = [args],
        inputs = inputs,
        outputs = [document],
        mnemonic = "ImageSbom",
        progress_message = "Listing what {} is made of".format(info.image_name),
    )
    return [DefaultInfo(files = depset([document]))]

_image_sbom = rule(
    implementation = _image_sbom_impl,
    doc = """Writes what an image is made of as IMAGE.spdx.json, in the JSON form of SPDX 2.3: its Debian packages, its programs with the
Go modules in them, and the same of the images that lie inside it.

It reads the layers, so it finds what is in them, whatever rule put it there. The document depends on the image alone.""",
    attrs = {
        "image": attr.label(doc = "The image.", mandatory = True, providers = [ImageInfo]),
        "locks": attr.label_list(
            allow_files = [".json"],
            doc = "Locks of the Debian packages, for the checksums of their files; a package in none of them is the vendor's.",
        ),
        "programs": attr.label_list(
            aspects = [modules_aspect],
            doc = "This workspace's own `go_binary` targets in the image: unlike `go_program`s they carry no list of their modules.",
            providers = [GoArchive],
        ),
        "_sbom": attr.label(default = "//tools/sbom", doc = "The program that does the work.", executable = True, cfg = "exec"),
    },
)

def image_sbom(name, image, locks, programs = [], tags = [], **kwargs):
    """Writes what an image is made of as IMAGE.spdx.json, on request only.

    Args:
      name: name of the target.
      image: the image.
      locks: the locks of its Debian packages.
      programs: this workspace's own `go_binary` targets in the image, or in an image inside it.
      tags: the target's tags.
      **kwargs: further attributes of the rule.
    """
    _image_sbom(
        name = name,
        image = image,
        locks = locks,
        programs = programs,
        tags = tags + ["manual"],
        **kwargs
    )
