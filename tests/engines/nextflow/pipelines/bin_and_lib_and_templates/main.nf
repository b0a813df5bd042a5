process FROM_BIN { publishDir params.outdir
  output: path 'bin.txt'
  script: "greet.sh world > bin.txt" }
process FROM_TEMPLATE { publishDir params.outdir
  input: val name
  output: path 'template.txt'
  script: template 'write.sh' }
process FROM_SHELL { publishDir params.outdir
  input: val name
  output: path 'shell.txt'
  shell: '''
  where=here
  echo "!{name} ${where}" > shell.txt
  '''
}
workflow { FROM_BIN(); FROM_TEMPLATE('tom'); FROM_SHELL('sam'); println "OUT: ${Helper.twice('ab')}" }
