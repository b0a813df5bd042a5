process HEAD { publishDir params.outdir, mode: 'copy'
  input: path table; path folder; path 'renamed/*'
  output: path 'head.txt'
  script: "(head -1 $table; ls -1 $folder; cat $folder/deep/z.txt; ls renamed) > head.txt" }
workflow {
  table = file("${params.base}/table.csv")
  folder = file("${params.base}/folder")
  println "OUT: ${table.exists()} ${folder.exists()} ${folder.isDirectory()} ${table.isDirectory()} ${file("${params.base}/nope").exists()}"
  println "OUT: ${table.size()} ${table.text.length()} ${table.name} ${table.baseName} ${table.extension} ${table.parent.name}"
  println "OUT: ${folder.list().sort()} ${folder.listFiles()*.name.sort()} ${table.readLines()[1]} ${table.countLines()}"
  Channel.fromPath("${params.base}/table.csv").splitCsv(header: true).view { "OUT: ${it.id}=${it.value}" }
  HEAD(table, folder, [folder.resolve('x.txt'), "${params.base}/folder/y.txt"])
  copied = table.copyTo("${workflow.workDir}/copy.csv")
  println "OUT: ${copied.text == table.text}"
}
