process LINES { input: path f
  output: tuple val(f.name), stdout
  script: "grep -c . $f" }
workflow {
  Channel.fromPath("$projectDir/data/*.txt").set { texts }
  LINES(texts)
  LINES.out.map { name, n -> "OUT: $name ${n.trim()}" }.view()
  Channel.fromFilePairs("$projectDir/data/*_{1,2}.fq").view { id, pair -> "OUT: $id ${pair*.name}" }
  Channel.fromPath("$projectDir/data/**.deep").view { "OUT: deep ${it.name}" }
  Channel.fromPath("$projectDir/data/nothing*").ifEmpty('none').view { "OUT: $it" }
  println "OUT: ${file("$projectDir/data").isDirectory()} ${file("$projectDir/data/a.txt").readLines().size()} ${file('relative.txt').exists()}"
}
