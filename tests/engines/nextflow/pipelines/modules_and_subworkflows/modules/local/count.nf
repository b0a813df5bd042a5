process COUNT {
  publishDir params.outdir, mode: 'copy'
  input: path files
  output: path 'count.txt'
  script: "cat $files | sort > lines; (wc -l < lines; cat lines) > count.txt"
}
