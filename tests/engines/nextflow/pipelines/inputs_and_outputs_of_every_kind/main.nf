process KINDS { publishDir params.outdir
  input: tuple val(id), path(f, stageAs: 'staged.txt'); each mode; env 'GIVEN'; stdin
  output: tuple val(id), val(mode), path("${id}-${mode}.txt"), env('MADE'), eval('echo evaluated')
  script: """
  text=\$(cat)
  MADE="made by $mode"
  (echo "\$GIVEN \$text"; cat staged.txt) > ${id}-${mode}.txt
  """
}
process MANY { output: path 'part_*', arity: '2..*', emit: parts; path 'out/**', emit: deep; path '.hidden', hidden: true, emit: hidden
  script: "touch part_1 part_2; mkdir -p out/x; echo deep > out/x/y; echo h > .hidden" }
process NAMES { input: path 'in?.txt'; path '*'
  output: stdout
  script: "ls | grep -v '^in-' | sort | tr '\\n' ' '" }
workflow {
  f = file("$projectDir/data.txt")
  KINDS(Channel.of(['a', f], ['b', f]), ['m', 'n'], 'given', 'from stdin')
  KINDS.out.map { id, mode, p, made, e -> "OUT: $id $mode ${p.text.readLines()} $made $e" }.view()
  MANY()
  MANY.out.parts.flatten().map { it.name }.toSortedList().view { "OUT: $it" }
  MANY.out.deep.flatten().filter { it.isFile() }.view { "OUT: ${it.text.trim()}" }
  NAMES(Channel.fromPath("$projectDir/data.txt").map { [it, it] }, MANY.out.parts)
  NAMES.out.view { "OUT: $it" }
}
