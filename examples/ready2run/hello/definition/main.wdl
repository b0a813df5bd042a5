version 1.0

workflow Hello {
    input {
        String name = "world"
    }
    parameter_meta {
        name: "Who is greeted"
    }
    call greet { input: name = name }
    output {
        File greeting = greet.greeting
    }
}

task greet {
    input {
        String name
    }
    command <<<
        echo "hello ~{name}" > greeting.txt
    >>>
    output {
        File greeting = "greeting.txt"
    }
}
