params.text = 'default'
params.unset = 'kept'
process SHOW {
  publishDir params.outdir, mode: 'copy'
  input: val values
  output: path 'values.txt'
  script:
  """
  cat > values.txt <<'TEXT'
  ${values.join('\n  ')}
  TEXT
  """
}
workflow {
  values = ['text', 'count', 'ratio', 'big', 'yes', 'nothing', 'list', 'map', 'extra', 'unset'].collect { name ->
    "$name = ${params[name]} (${params[name]?.getClass()?.simpleName})" }
  values.each { println "OUT: $it" }
  SHOW([values])
}
