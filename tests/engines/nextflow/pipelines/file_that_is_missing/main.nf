workflow { println file("$projectDir/nope.txt", checkIfExists: true) }
