"""image: an image of layers."""

load(":common.bzl", "IMAGER", "describe", "exec_path", "image_files", "runfiles_path")
load(":image_info.bzl", "ImageInfo")
load(":joined.bzl", "image_archive", "image_layout")
load(":layer_info.bzl", "LayerInfo")
load(":load.bzl", "image_load")

def _base_spec(info):
    return describe(info.image_name, info.config, info.manifest, info.layers, exec_path)

def _annotations(ctx):
    name, _, tag = ctx.attr.image_name.partition(":")
    return {
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.version": tag,
    } | ctx.attr.annotations

def _config(ctx):
    config = {
        "entrypoint": ctx.attr.entrypoint,
        "env": ctx.attr.env,
        "labels": _annotations(ctx),
        "volumes": ctx.attr.volumes,
        "exposedPorts": ctx.attr.exposed_ports,
        "stopSignal": ctx.attr.stop_signal,
    }
    if ctx.attr.healthcheck:
        config["healthcheck"] = {
            "command": ctx.attr.healthcheck,
            "interval": ctx.attr.health_interval,
            "timeout": ctx.attr.health_timeout,
            "startPeriod": ctx.attr.health_start_period,
            "startInterval": ctx.attr.health_start_interval,
            "retries": ctx.attr.health_retries,
        }
    return config

def _image_impl(ctx):
    base = ctx.attr.base[ImageInfo] if ctx.attr.base else None
    own = [layer for target in ctx.attr.layers for layer in target[LayerInfo].layers]
    state = base.state if base else None
    for target in ctx.attr.layers:
        state = target[LayerInfo].state or state

    spec = ctx.actions.declare_file(ctx.label.name + ".spec.json")
    content = {
        "layers": [{"metadata": layer.metadata.path} for layer in own],
        "config": _config(ctx),
        "annotations": _annotations(ctx),
    }
    inputs = [spec] + [layer.metadata for layer in own]
    if state:
        content["state"] = state.path
        inputs.append(state)
    if base:
        content["base"] = _base_spec(base)
        inputs += [base.config, base.manifest]
    ctx.actions.write(spec, json.encode_indent(content))

    config = ctx.actions.declare_file(ctx.label.name + ".config.json")
    manifest = ctx.actions.declare_file(ctx.label.name + ".manifest.json")
    digest = ctx.actions.declare_file(ctx.label.name + ".digest")
    args = ctx.actions.args()
    args.add("image")
    args.add("--spec", spec)
    args.add("--config", config)
    args.add("--manifest", manifest)
    args.add("--digest", digest)
    ctx.actions.run(
        executable = ctx.executable._imager,
        arguments = [args],
        inputs = inputs,
        outputs = [config, manifest, digest],
        mnemonic = "ImageManifest",
        progress_message = "Building image %{label}",
    )

    info = ImageInfo(
        image_name = ctx.attr.image_name,
        bases = base.bases + [base.manifest] if base else [],
        config = config,
        manifest = manifest,
        layers = (base.layers if base else []) + own,
        own_layers = own,
        state = state,
    )
    files = image_files(info)

    # For programs that have the image among their runfiles: where each of its parts is.
    description = ctx.actions.declare_file(ctx.label.name + ".json")
    ctx.actions.write(description, json.encode_indent(
        describe(info.image_name, config, manifest, info.layers, lambda f: runfiles_path(ctx, f)),
    ))
    return [
        DefaultInfo(files = depset([description]), runfiles = ctx.runfiles(files = [description] + files)),
        OutputGroupInfo(
            digest = depset([digest]),
            config = depset([config]),
            manifest = depset([manifest]),
            blobs = depset([layer.blob for layer in info.layers]),
            mtree = depset([layer.mtree for layer in info.layers]),
        ),
        info,
    ]

_image = rule(
    implementation = _image_impl,
    doc = """Makes an image of layers: its config, its manifest and its digest, which refer to the layers' blobs.

The default output is a description of the image's files by their paths among the runfiles, for
programs that send or start the image; the runfiles have the files themselves.""",
    attrs = {
        "annotations": attr.string_dict(
            doc = """What the image says about itself, by the keys of the OCI image specification or one's own: annotations of its
manifest, where registries look, and labels, where engines do. Title and version are there, from the
image's name.

The manifest also says what its base is, and which Debian packages the image has.""",
        ),
        "base": attr.label(doc = "The image below, whose config this one's builds upon.", providers = [ImageInfo]),
        "entrypoint": attr.string_list(doc = "The program that a container starts, with its first arguments."),
        "env": attr.string_dict(doc = "Environment variables."),
        "exposed_ports": attr.string_list(doc = "Ports that containers listen on: 6443, 53/udp."),
        "health_interval": attr.string(doc = "Time between two health checks: 5s."),
        "health_retries": attr.int(doc = "After how many failures in a row a container is unhealthy."),
        "health_start_interval": attr.string(doc = "Time between two checks while a container starts."),
        "health_start_period": attr.string(doc = "How long a container may take to start before failures count."),
        "health_timeout": attr.string(doc = "After how long a check that does not end has failed."),
        "healthcheck": attr.string_list(doc = "The command whose exit status reports whether a container is healthy."),
        "image_name": attr.string(doc = "The image's name with its tag, as engines know it: dind-base:v1.", mandatory = True),
        "layers": attr.label_list(doc = "The layers, from the lowest to the highest.", providers = [LayerInfo]),
        "stop_signal": attr.string(doc = "The signal that asks the entry point to end: SIGRTMIN+3."),
        "volumes": attr.string_list(doc = "Paths that each container gets a volume of its own for."),
        "_imager": IMAGER,
    },
)

def image(name, tags = [], visibility = None, **kwargs):
    """Makes an image, and targets to use it with.

    Args:
      name: the image. `NAME.tar` is a file for `docker load`, `NAME.layout` an OCI layout, and
        `bazel run NAME.load` loads the image into the local Docker. All three are built on request
        only.
      tags: tags for all of them.
      visibility: visibility of all of them.
      **kwargs: see the rule's attributes.
    """
    _image(
        name = name,
        tags = tags,
        visibility = visibility,
        **kwargs
    )
    image_archive(
        name = name + ".tar",
        image = name,
        tags = tags + ["manual"],
        visibility = visibility,
    )
    image_layout(
        name = name + ".layout",
        image = name,
        tags = tags + ["manual"],
        visibility = visibility,
    )
    image_load(
        name = name + ".load",
        image = name,
        tags = tags + ["manual"],
        visibility = visibility,
    )
