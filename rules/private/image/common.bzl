"""What the image rules share."""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")

COMPRESSION = attr.label(
    default = "//rules:compression",
    doc = "How layers are compressed.",
    providers = [BuildSettingInfo],
)

# What a blob's name ends in, by its compression.
EXTENSIONS = {
    "gzip": ".tar.gz",
    "none": ".tar",
    "zstd": ".tar.zst",
}

def compression(ctx):
    """Returns how the layers of a rule are compressed.

    Args:
      ctx: the context of a rule with the attribute _compression.

    Returns:
      gzip or zstd.
    """
    return ctx.attr._compression[BuildSettingInfo].value

IMAGER = attr.label(
    default = "//tools/imager",
    doc = "The program that does the work, for actions.",
    executable = True,
    cfg = "exec",
)

def runfiles_path(ctx, file):
    """Returns where a file is among runfiles.

    Args:
      ctx: the rule's context.
      file: the file.

    Returns:
      The path, relative to the root of the runfiles.
    """
    if file.short_path.startswith("../"):
        return file.short_path[len("../"):]
    return ctx.workspace_name + "/" + file.short_path

def describe(name, config, manifest, layers, path):
    """Describes an image's files for imager.

    Args:
      name: the image's name with its tag.
      config: the config's file.
      manifest: the manifest's file.
      layers: the layers, as in ImageInfo.
      path: function from a file to its path.

    Returns:
      The description, to be encoded as JSON.
    """
    return {
        "name": name,
        "config": path(config),
        "manifest": path(manifest),
        "layers": [{"metadata": path(layer.metadata), "blob": path(layer.blob)} for layer in layers],
    }

def image_files(info):
    """Lists all files of an image.

    Args:
      info: the image's ImageInfo.

    Returns:
      A list of files.
    """
    return [info.config, info.manifest] + [f for layer in info.layers for f in (layer.metadata, layer.blob)]

def exec_path(file):
    """Returns a file's path for actions.

    Args:
      file: the file.

    Returns:
      The path.
    """
    return file.path

def write_description(ctx, info, name):
    """Writes the description of an image for an action, which then needs image_files(info) too.

    Args:
      ctx: the rule's context.
      info: the image's ImageInfo.
      name: the name of the file to write.

    Returns:
      The file.
    """
    description = ctx.actions.declare_file(name)
    ctx.actions.write(description, json.encode_indent(
        describe(info.image_name, info.config, info.manifest, info.layers, exec_path),
    ))
    return description

def run_imager(ctx, imager, arguments, runfiles):
    """Makes the providers of a target that `bazel run` or `bazel test` starts imager for.

    Args:
      ctx: the rule's context, of an executable rule.
      imager: the imager executable, in the target's configuration.
      arguments: its arguments; paths are short paths.
      runfiles: the runfiles it needs.

    Returns:
      A list of providers.
    """
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(output = executable, target_file = imager, is_executable = True)
    return [
        DefaultInfo(executable = executable, runfiles = runfiles),
        RunEnvironmentInfo(environment = {"IMAGER_ARGS": json.encode(arguments)}),
    ]
