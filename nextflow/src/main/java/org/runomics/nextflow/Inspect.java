package org.runomics.nextflow;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import nextflow.NextflowMeta;
import nextflow.Session;
import nextflow.script.parser.v1.ScriptLoaderV1;
import org.codehaus.groovy.control.CompilationUnit;
import org.codehaus.groovy.control.CompilerConfiguration;
import org.codehaus.groovy.control.MultipleCompilationErrorsException;
import org.codehaus.groovy.control.Phases;
import org.codehaus.groovy.control.messages.Message;
import org.codehaus.groovy.control.messages.SyntaxErrorMessage;
import org.codehaus.groovy.syntax.SyntaxException;

/** Compiles a definition's scripts and configuration, and runs none of it. */
final class Inspect {
    private static final String DSL1 = "DSL1 is not supported: rewrite it for DSL2, with a `workflow` block";

    private Inspect() {}

    /** `order`: the definition's `root`, its `scripts` and `configurations` by relative path. The answer: `errors`. */
    static Map<String, Object> run(Map<?, ?> order) {
        Path root = Path.of((String) order.get("root"));
        List<String> errors = new ArrayList<>();
        Session session = new Session();
        for (Object script : (List<?>) order.get("scripts")) compile(session, root, (String) script, errors);
        for (Object configuration : (List<?>) order.get("configurations")) convert(root, (String) configuration, errors);
        return Map.of("errors", errors);
    }

    /** For the archive of classes. */
    static void warm() throws Exception {
        Path root = Files.createTempDirectory("inspect");
        Files.writeString(root.resolve("main.nf"), "process A { script: 'true' }\nworkflow { A() }\n");
        Files.writeString(root.resolve("nextflow.config"), "params.x = 1\n");
        run(Map.of("root", root.toString(), "scripts", List.of("main.nf"), "configurations", List.of("nextflow.config")));
        Files.delete(root.resolve("main.nf"));
        Files.delete(root.resolve("nextflow.config"));
        Files.delete(root);
    }

    private static void compile(Session session, Path root, String name, List<String> errors) {
        try {
            Path path = root.resolve(name);
            if (isFirstDsl(Files.readString(path))) {
                errors.add("(" + name + ") " + DSL1);
                return;
            }
            new ScriptLoaderV1(session).setModule(true).parse(path);
        } catch (Exception | StackOverflowError problem) {
            tell(name, problem, errors);
        }
    }

    private static boolean isFirstDsl(String text) {
        String declared = NextflowMeta.checkDslMode(text);
        return declared == null ? NextflowMeta.probeDsl1(text) : declared.equals("1");
    }

    /** Groovy's grammar alone: what a configuration's names mean is only known when it runs. */
    private static void convert(Path root, String name, List<String> errors) {
        try {
            CompilationUnit unit = new CompilationUnit(new CompilerConfiguration());
            unit.addSource(name, Files.readString(root.resolve(name)));
            unit.compile(Phases.CONVERSION);
        } catch (Exception | StackOverflowError problem) {
            tell(name, problem, errors);
        }
    }

    private static void tell(String name, Throwable problem, List<String> errors) {
        for (Throwable cause = problem; cause != null; cause = cause.getCause()) {
            if (!(cause instanceof MultipleCompilationErrorsException several)) continue;
            for (Message message : several.getErrorCollector().getErrors()) {
                if (message instanceof SyntaxErrorMessage syntax) errors.add(located(name, syntax.getCause()));
                else errors.add("(" + name + ") " + firstLine(String.valueOf(message)));
            }
            return;
        }
        if (problem instanceof StackOverflowError) errors.add("(" + name + ") it is nested too deeply");
        else errors.add("(" + name + ") " + firstLine(problem.getMessage() == null ? problem.toString() : problem.getMessage()));
    }

    private static String located(String name, SyntaxException problem) {
        String text = problem.getOriginalMessage() == null ? problem.getMessage() : problem.getOriginalMessage();
        return "(" + name + " Ln " + problem.getLine() + " Col " + problem.getStartColumn() + ") " + firstLine(text);
    }

    private static String firstLine(String text) {
        return text.strip().lines().findFirst().orElse("");
    }
}
