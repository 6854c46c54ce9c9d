"""go_program: links a Go program of a universe as upstream's release would."""

load("@io_bazel_rules_go//go:def.bzl", "GoArchive", "go_context")
load(":modules.bzl", "ModulesInfo", "modules_aspect")

_SDK_VERSION = "@io_bazel_rules_go//go/toolchain:sdk_version"
_TAGS = "@io_bazel_rules_go//go/config:tags"

def _transition_impl(_settings, attr):
    return {_SDK_VERSION: attr.go, _TAGS: attr.gotags}

_transition = transition(
    implementation = _transition_impl,
    inputs = [],
    outputs = [
        _SDK_VERSION,
        _TAGS,
    ],
)

# debug/buildinfo takes the module list from between two marks of this length and does not look at
# them (https://github.com/golang/go/blob/master/src/debug/buildinfo/buildinfo.go). The go command's
# own marks are no UTF-8 and could not be passed on.
_MARK = "0123456789abcdef"

def _module_list(main, package, modules):
    """Returns the text that the go command would embed, the one `go version -m` shows."""
    lines = ["path\t" + package, "mod\t{}\t{}".format(main.path, main.version)]
    lines += [
        "dep\t{}\t{}".format(path, version)
        for path, version in sorted({m.path: m.version for m in modules if m.path != main.path}.items())
    ]
    return "".join([line + "\n" for line in lines])

def _go_program_impl(ctx):
    binary = ctx.attr.binary
    archive = binary[GoArchive]
    repository = binary.label.repo_name

    # What is linked decides what is listed: a module counts if at least one of its packages is in
    # the program.
    known = {m.repository: m for m in binary[ModulesInfo].modules.to_list()}
    linked = {}
    for package in archive.transitive.to_list():
        name = package.label.repo_name
        if name in known:
            linked[name] = known[name]
        elif name != "io_bazel_rules_go":  # Its test support, in test programs only, is a part of the toolchain.
            fail("{} links {}, and its repository @{} does not say which module it is".format(binary.label, package.label, name))
    if repository not in linked:
        fail("{}: no module is known for its own repository".format(binary.label))
    main = linked[repository]

    modules = _module_list(main, main.path + "/" + binary.label.package if binary.label.package else main.path, linked.values())
    options = ["-s", "-w", "-X=runtime.modinfo=" + _MARK + modules + _MARK]
    if ctx.attr.is_test:
        options.append("-X=testing.testBinary=1")
    if ctx.attr.godebug:
        options.append("-X=runtime.godebugDefault=" + ctx.attr.godebug)
    options += ["-X={}={}".format(name, value) for name, value in ctx.attr.x_defs.items()]

    # In a directory of its own, as go_binary does: a program may be named as a package below is.
    executable = ctx.actions.declare_file("{}_/{}".format(ctx.label.name, ctx.attr.program or ctx.label.name))
    go = go_context(ctx, go_context_data = ctx.attr._go_context_data)
    go.link(go, archive = archive, executable = executable, gc_linkopts = options)

    listing = ctx.actions.declare_file(ctx.label.name + ".modules")
    ctx.actions.write(listing, modules)

    return [
        DefaultInfo(files = depset([executable]), executable = executable),
        OutputGroupInfo(modules = depset([listing])),
        platform_common.TemplateVariableInfo({
            "VERSION": main.version,
            "BARE_VERSION": main.version.removeprefix("v"),
        }),
    ]

go_program = rule(
    implementation = _go_program_impl,
    cfg = _transition,
    executable = True,
    doc = """Links a `go_binary` (or the test program of a `go_test`) of a universe, as upstream's release process would.

rules_go's own link step leaves out what the go command embeds in a program: the list of its
modules, which `go version -m`, vulnerability scanners and `kubectl version` read, and GODEBUG's
default. The list is made from the packages that are linked and from the repositories they come
from, not from the lock, so that it can be held against the lock.

The rule offers the program's version to others as the make variables `VERSION` (`v1.2.3`) and `BARE_VERSION` (`1.2.3`).""",
    attrs = {
        "binary": attr.label(
            mandatory = True,
            providers = [GoArchive],
            aspects = [modules_aspect],
            doc = "The program as Gazelle declared it. Its packages are used, its own link step does not run.",
        ),
        "go": attr.string(doc = "Version of the Go SDK, of those in WORKSPACE: 1.25.9; default: the first."),
        "gotags": attr.string_list(doc = "Build tags for the program and all its packages, those of upstream's own build. Tags that add files must stand in the universe's `build_tags`, too; its `modules.bzl` has them as `TAGS`."),
        "program": attr.string(doc = "Name of the file; default: the rule's."),
        "godebug": attr.string(doc = "Default of GODEBUG, as the go command derives it from the go line in upstream's go.mod."),
        "x_defs": attr.string_dict(doc = "Variables to set, package path and name to value, besides those that its libraries set."),
        "is_test": attr.bool(doc = "Whether binary is a go_test."),
        "_go_context_data": attr.label(default = "@io_bazel_rules_go//:go_context_data"),
        "_allowlist_function_transition": attr.label(default = "@bazel_tools//tools/allowlists/function_transition_allowlist"),
    },
    toolchains = ["@io_bazel_rules_go//go:toolchain"],
)
