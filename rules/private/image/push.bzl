"""image_push: pushes images to a registry."""

load(":common.bzl", "runfiles_path")
load(":image_info.bzl", "ImageInfo")

ImagePushInfo = provider(
    doc = "What `bazel run` of a target pushes.",
    fields = {
        "bases": "list of File: the manifests of the images below, the lowest first.",
        "arguments": "list of string: what the publisher is told about the images. Paths are relative to the root of the runfiles.",
        "names": "list of string: the images' names, without tags.",
        "runfiles": "runfiles: the images' files.",
        "siblings": "list of string: the names of images that blobs may be mounted from.",
    },
)

def _run_publisher(ctx, info):
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = executable, target_file = ctx.executable._publisher, is_executable = True)

    # A program that `bazel run` starts is in its workspace's directory of the runfiles.
    arguments = ["--target", str(ctx.label).lstrip("@"), "--root", ".."] + info.arguments
    for name in info.siblings:
        arguments += ["--sibling", name]
    for manifest in info.bases:
        arguments += ["--base-manifest", runfiles_path(ctx, manifest)]

    # What scripts/workspace-status said. It is read when images are pushed, and no input of any
    # action.
    arguments += ["--status", runfiles_path(ctx, ctx.info_file)]
    return [
        DefaultInfo(executable = executable, runfiles = info.runfiles.merge(ctx.runfiles([ctx.info_file] + info.bases))),
        RunEnvironmentInfo(environment = {"PUBLISHER_ARGS": json.encode(arguments)}),
        info,
    ]

def _image_push_impl(ctx):
    name = ctx.attr.image[ImageInfo].image_name.split(":")[0]
    arguments = ["--image", runfiles_path(ctx, ctx.file.image)]
    files = [ctx.file.image]
    if ctx.file.sbom:
        arguments += ["--sbom-file", "{}={}".format(name, runfiles_path(ctx, ctx.file.sbom))]
        files.append(ctx.file.sbom)
    return _run_publisher(ctx, ImagePushInfo(
        arguments = arguments,
        bases = ctx.attr.image[ImageInfo].bases,
        names = [name],
        runfiles = ctx.runfiles(files).merge(ctx.attr.image[DefaultInfo].default_runfiles),
        siblings = [sibling for sibling in ctx.attr.siblings if sibling != name],
    ))

_PUBLISHER = attr.label(default = "//tools/publisher", doc = "The program that is run.", executable = True, cfg = "target")

image_push = rule(
    implementation = _image_push_impl,
    doc = """`bazel run NAME -- --registry REGISTRY/PATH` pushes an image to a registry, sending only the blobs it lacks.

See docs/publishing.md for the options.""",
    attrs = {
        "image": attr.label(allow_single_file = True, doc = "The image.", mandatory = True, providers = [ImageInfo]),
        "sbom": attr.label(
            allow_single_file = [".json"],
            doc = "What the image is made of, in the JSON form of SPDX. It is attached to the image, as an OCI referrer.",
        ),
        "siblings": attr.string_list(
            doc = "Names of images that may be at the same place: blobs that one of them has are mounted rather than sent.",
        ),
        "_publisher": _PUBLISHER,
    },
    executable = True,
)

def _image_push_all_impl(ctx):
    pushes = [target[ImagePushInfo] for target in ctx.attr.pushes]
    names = [name for push in pushes for name in push.names]
    if len(names) != len({name: None for name in names}):
        fail("pushes: two images have the same name: {}".format(", ".join(names)))
    siblings = {name: None for push in pushes for name in push.siblings if name not in names}
    return _run_publisher(ctx, ImagePushInfo(
        arguments = [argument for push in pushes for argument in push.arguments],
        bases = {manifest: None for push in pushes for manifest in push.bases}.keys(),
        names = names,
        runfiles = ctx.runfiles().merge_all([push.runfiles for push in pushes]),
        siblings = siblings.keys(),
    ))

image_push_all = rule(
    implementation = _image_push_all_impl,
    doc = """`bazel run NAME -- --registry REGISTRY/PATH` pushes several images together: what they share is sent once, and no tag is
written before all of them are there.""",
    attrs = {
        "pushes": attr.label_list(doc = "The `image_push` targets of the images.", mandatory = True, providers = [ImagePushInfo]),
        "_publisher": _PUBLISHER,
    },
    executable = True,
)
