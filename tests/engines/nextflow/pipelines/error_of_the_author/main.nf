workflow { println "OUT: before"; if( !params.input ) error "Give --input, please" }
