"""go_universe: all modules of one upstream, with upstream's own versions.

A *universe* is a set of Go modules in which each module has one version: the one that upstream's
go.mod selects. Its repositories carry the universe's name as a prefix (`etcd__org_golang_x_net`),
so universes do not share modules.
"""

def _words(line):
    return [w for w in line.replace("\t", " ").split(" ") if w]

def _directives(text):
    """Splits a go.mod file into its directives.

    Args:
      text: content of the go.mod file.

    Returns:
      A list of (verb, arguments) pairs, comments removed, blocks unfolded.
    """
    out = []
    block = None
    for line in text.split("\n"):
        line = line.split("//")[0].strip()
        if not line:
            continue
        if line == ")":
            block = None
        elif line.endswith("("):
            block = line[:-1].strip()
        elif block:
            out.append((block, _words(line)))
        else:
            words = _words(line)
            out.append((words[0], words[1:]))
    return out

def _parse_lock(ctx):
    requires = {}
    replaces = {}
    for verb, args in _directives(ctx.read(ctx.attr.go_mod)):
        if verb == "require":
            requires[args[0]] = args[1]
        elif verb == "replace":
            if len(args) != 4 or args[1] != "=>":
                fail("{}: replace {}: only whole modules can be replaced, by published ones".format(ctx.attr.go_mod, " ".join(args)))
            replaces[args[0]] = (args[2], args[3])
    sums = {}
    for line in ctx.read(ctx.attr.go_sum).split("\n"):
        words = _words(line)
        if len(words) == 3 and not words[1].endswith("/go.mod"):
            sums[(words[0], words[1])] = words[2]

    modules = []
    for path in sorted(requires):
        fetched, version = replaces.get(path, (path, requires[path]))
        if (fetched, version) not in sums:
            fail("{}: no hash of {}@{}. Lock the universe anew: scripts/lock go {}".format(ctx.attr.go_sum, fetched, version, ctx.attr.go_mod.package))
        modules.append(struct(path = path, fetched = fetched, version = version, sum = sums[(fetched, version)]))
    return modules

def _repository_name(prefix, module):
    """Returns Gazelle's repository name for a module: `golang.org/x/net` is `org_golang_x_net`.

    Args:
      prefix: the universe's prefix, may be empty.
      module: the module's path.

    Returns:
      The name of the module's repository in the universe.
    """
    segments = module.lower().split("/")
    host = segments[0].split(".")
    name = "_".join(host[::-1] + segments[1:])
    return prefix + "".join([c if c.isalnum() else "_" for c in name.elems()])

def _upstream(ctx):
    """Reads what the universe was made for: the first `// upstream: MODULE@VERSION TIME` line of the lock.

    Args:
      ctx: the repository context.

    Returns:
      A dict of placeholders: version (v1.2.3), major (1), minor (2), time (RFC 3339).
    """
    for line in ctx.read(ctx.attr.go_mod).split("\n"):
        if line.startswith("// upstream: "):
            module, _, time = line.removeprefix("// upstream: ").partition(" ")
            version = module.partition("@")[2]
            numbers = version.removeprefix("v").split(".")
            return {"version": version, "major": numbers[0], "minor": numbers[1], "time": time}
    return {}

def _lookup(table, path):
    """Finds what a table says of a module: under its path, else under the longest matching `prefix*`.

    Args:
      table: a dict from module path or `prefix*` to a list.
      path: the module's path.

    Returns:
      The list found, or an empty one.
    """
    best = None
    for key in table:
        if key == path:
            return table[key]
        if key.endswith("*") and path.startswith(key[:-1]) and (best == None or len(key) > len(best)):
            best = key
    return table[best] if best else []

def _patch_commands(ctx, modules, placeholders):
    """Collects the commands to run in each module; those for link_values add `x_defs` to the packages' libraries.

    Args:
      ctx: the repository context.
      modules: the modules of the lock.
      placeholders: what stands for {version} and so on.

    Returns:
      A dict from module path to a list of shell commands.
    """
    commands = {m.path: list(_lookup(ctx.attr.patch_commands, m.path)) for m in modules}
    for package, values in ctx.attr.link_values.items():
        owners = [m.path for m in modules if package == m.path or package.startswith(m.path + "/")]
        if not owners:
            fail("{}: no module of {} holds package {}".format(ctx.name, ctx.attr.go_mod, package))
        owner = sorted(owners, key = len)[-1]
        definitions = []
        for value in values:
            name, _, text = value.partition("=")
            definitions.append('"{}": "{}",'.format(name, text.format(**placeholders)))
        commands[owner].append("sed -i 's|^    importpath = \"{package}\",$|&\\n    x_defs = {{ {definitions} }},|' ./{directory}/BUILD.bazel && grep -q x_defs ./{directory}/BUILD.bazel".format(
            package = package,
            definitions = " ".join(definitions),
            directory = package.removeprefix(owner).removeprefix("/"),
        ))
    return commands

def _go_universe_impl(ctx):
    modules = _parse_lock(ctx)
    placeholders = _upstream(ctx)
    commands = _patch_commands(ctx, modules, placeholders)
    config = []
    calls = []
    for m in modules:
        name = _repository_name(ctx.attr.prefix, m.path)

        # For Gazelle, which reads the file but does not run it.
        config.append('go_repository(\n    name = "{}",\n    importpath = "{}",\n)\n'.format(name, m.path))
        attributes = {
            "name": name,
            "importpath": m.path,
            "version": m.version,
            "sum": m.sum,
            "build_config": "@{}//:modules.WORKSPACE".format(ctx.name),
            "build_directives": ["gazelle:" + d for d in _lookup(ctx.attr.directives, m.path)],
            "build_file_generation": "clean",
            # Upstreams check generated code in, so none is generated here.
            "build_file_proto_mode": "disable_global",
        }
        if m.fetched != m.path:
            attributes["replace"] = m.fetched
        if ctx.attr.build_tags:
            attributes["build_tags"] = ctx.attr.build_tags
        if commands[m.path]:
            attributes["patch_cmds"] = commands[m.path]
        calls.append('    if "{}" not in existing:\n        go_repository(\n{}        )\n'.format(name, "".join([
            "            {} = {},\n".format(key, repr(value))
            for key, value in attributes.items()
        ])))

    ctx.file("modules.WORKSPACE", "\n".join(config))
    ctx.file("modules.json", json.encode_indent({
        m.path: {"version": m.version, "sum": m.sum, "replace": m.fetched if m.fetched != m.path else ""}
        for m in modules
    }))
    ctx.file("BUILD.bazel", 'exports_files(["modules.WORKSPACE", "modules.json"])\n')
    ctx.file("modules.bzl", """\
load("@bazel_gazelle//:deps.bzl", "go_repository")

# Upstream's version and its time of publication.
VERSION = {version}
TIME = {time}

# Build tags that the build files were made for: what go_program's gotags must have.
TAGS = {tags}

def go_repositories():
    existing = native.existing_rules()
{calls}""".format(
        version = repr(placeholders.get("version", "")),
        tags = repr(ctx.attr.build_tags),
        time = repr(placeholders.get("time", "")),
        calls = "".join(calls),
    ))

_go_universe = repository_rule(
    implementation = _go_universe_impl,
    doc = """Reads one lock and offers `@NAME//:modules.bzl`, whose `go_repositories()` declares every module in it.

The lock must be complete, as `scripts/lock` writes it: no module is resolved here.""",
    attrs = {
        "go_mod": attr.label(mandatory = True, allow_single_file = True, doc = "go.mod of the lock. Replacements must name published modules."),
        "go_sum": attr.label(mandatory = True, allow_single_file = True, doc = "go.sum of the lock."),
        "prefix": attr.string(doc = "Put before the name of each module's repository."),
        "build_tags": attr.string_list(doc = "Go build tags that Gazelle takes as set."),
        "directives": attr.string_list_dict(doc = "Gazelle directives for a module, by module path or `prefix*`; the longest match counts."),
        "link_values": attr.string_list_dict(doc = "Variables that the linker sets, by package path: `NAME=VALUE`. {version}, {major}, {minor} and {time} stand for upstream's."),
        "patch_commands": attr.string_list_dict(doc = "Shell commands to run in a module after Gazelle made its build files, by module path or `prefix*`."),
    },
)

_DIRECTIVES = {
    # Tests of dependencies are not built, and some would split a package from the files that it
    # embeds.
    "*": ["exclude **/*_test.go"],
}

_PATCH_COMMANDS = {
    # These modules import each other's internal packages.
    "go.opentelemetry.io/*": [
        "find . -name BUILD.bazel -exec sed -z -i 's|visibility = \\[[^]]*\\]|visibility = [\"//visibility:public\"]|g' {} +",
    ],
}

_EXPORT_GO_MOD = "echo 'exports_files([\"go.mod\"])' >> BUILD.bazel"

def go_universe(name, lock, prefix = None, upstreams = [], directives = {}, patch_commands = {}, **kwargs):
    """Declares a universe: `@NAME//:modules.bzl`, whose `go_repositories()` declares every module of one lock.

    Args:
      name: name of the universe's repository.
      lock: the package with the lock's go.mod and go.sum, as `scripts/lock go` writes them:
        `//third_party/etcd`.
      prefix: put before the name of each module's repository; NAME and two underscores unless
        given.
      upstreams: paths of the modules that the universe is made for. Their own go.mod is a file that
        tests can hold the lock against.
      directives: Gazelle directives for single modules, by module path or `prefix*`, in place of
        the common ones.
      patch_commands: shell commands to run in single modules after Gazelle made their build files,
        by module path or `prefix*`.
      **kwargs: further attributes of the rule: build_tags, link_values.
    """
    commands = _PATCH_COMMANDS | patch_commands
    for module in upstreams:
        commands[module] = [_EXPORT_GO_MOD] + commands.get(module, [])
    _go_universe(
        name = name,
        directives = _DIRECTIVES | directives,
        go_mod = lock + ":go.mod",
        go_sum = lock + ":go.sum",
        patch_commands = commands,
        prefix = name + "__" if prefix == None else prefix,
        **kwargs
    )
