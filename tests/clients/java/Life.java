// The life of a workflow through AWS's own SDK for Java: made, run, listed, tagged, shared. Prints what it saw as one line of JSON.
// Region and keys come from the environment, as the SDK itself reads them; so does the endpoint. The host prefix is turned off in code.

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentialsProvider;
import software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.client.config.SdkAdvancedClientOption;
import software.amazon.awssdk.core.document.Document;
import software.amazon.awssdk.core.waiters.WaiterOverrideConfiguration;
import software.amazon.awssdk.retries.api.BackoffStrategy;
import software.amazon.awssdk.services.omics.OmicsClient;
import software.amazon.awssdk.services.omics.model.ConflictException;
import software.amazon.awssdk.services.omics.model.GetRunResponse;
import software.amazon.awssdk.services.omics.model.OmicsException;
import software.amazon.awssdk.services.omics.model.ResourceNotFoundException;
import software.amazon.awssdk.services.omics.model.ResourceOwner;
import software.amazon.awssdk.services.omics.model.ShareStatus;
import software.amazon.awssdk.services.omics.model.StorageType;
import software.amazon.awssdk.services.omics.model.WorkflowExport;
import software.amazon.awssdk.services.omics.waiters.OmicsWaiter;

public final class Life {
    private static final String NAME = "life-java";

    public static void main(String[] arguments) throws Exception {
        OmicsClient owner = client(DefaultCredentialsProvider.create());
        OmicsClient subscriber = client(StaticCredentialsProvider.create(
            AwsBasicCredentials.create(given("SUBSCRIBER_KEY_ID"), given("SUBSCRIBER_SECRET"))));
        OmicsWaiter waiter = OmicsWaiter.builder().client(owner).overrideConfiguration(WaiterOverrideConfiguration.builder()
            .maxAttempts(60).backoffStrategyV2(BackoffStrategy.fixedDelayWithoutJitter(Duration.ofSeconds(1))).build()).build();

        // made
        SdkBytes definition = SdkBytes.fromByteArray(Files.readAllBytes(Path.of(given("DEFINITION"))));
        var made = owner.createWorkflow(r -> r.name(NAME).definitionZip(definition).tags(Map.of("from", "java")));
        waiter.waitUntilWorkflowActive(r -> r.id(made.id()));
        var workflow = owner.getWorkflow(r -> r.id(made.id()));

        // run
        List<String> ids = new ArrayList<>();
        for (String who : List.of("ana", "bea")) {
            ids.add(owner.startRun(r -> r.workflowId(made.id()).roleArn(given("ROLE_ARN")).outputUri(given("OUTPUT_URI"))
                .storageType(StorageType.DYNAMIC).name(who)
                .parameters(Document.fromMap(Map.of("name", Document.fromString(who))))).id());
        }
        for (String id : ids) {
            waiter.waitUntilRunCompleted(r -> r.id(id));
        }
        GetRunResponse run = owner.getRun(r -> r.id(ids.get(0)));
        var tasks = owner.listRunTasks(r -> r.id(run.id())).items().stream()
            .map(task -> List.of(task.name(), task.statusAsString(), task.cpus())).toList();

        // listed
        var pages = owner.listRunsPaginator(r -> r.maxResults(1));
        long runPages = pages.stream().count();
        long allRuns = pages.items().stream().count();
        var mine = pages.items().stream().filter(item -> item.workflowId().equals(made.id())).map(item -> item.name()).toList();
        var workflows = owner.listWorkflowsPaginator(r -> r.maxResults(1).name(NAME)).items().stream()
            .map(item -> item.id().equals(made.id())).toList();

        // tagged
        owner.tagResource(r -> r.resourceArn(run.arn()).tags(Map.of("colour", "blue", "size", "a / b")));
        var tagged = owner.listTagsForResource(r -> r.resourceArn(run.arn())).tags();
        owner.untagResource(r -> r.resourceArn(run.arn()).tagKeys("colour"));
        var untagged = owner.listTagsForResource(r -> r.resourceArn(run.arn())).tags();

        // shared
        String account = given("OWNER_ACCOUNT");
        OmicsException hidden = refusal(() -> subscriber.getWorkflow(r -> r.id(made.id()).workflowOwnerId(account)));
        var offer = owner.createShare(r -> r.resourceArn(workflow.arn()).principalSubscriber(given("SUBSCRIBER_ACCOUNT")).shareName(NAME));
        subscriber.acceptShare(r -> r.shareId(offer.shareId()));
        comesTo(owner, offer.shareId(), ShareStatus.ACTIVE);
        var seen = subscriber.getWorkflow(r -> r.id(made.id()).workflowOwnerId(account));
        OmicsException exported = refusal(() -> subscriber.getWorkflow(
            r -> r.id(made.id()).workflowOwnerId(account).export(WorkflowExport.DEFINITION)));
        long shares = subscriber.listSharesPaginator(
                r -> r.resourceOwner(ResourceOwner.OTHER).maxResults(1).filter(f -> f.status(ShareStatus.ACTIVE)))
            .shares().stream().filter(item -> item.shareId().equals(offer.shareId())).count();
        owner.deleteShare(r -> r.shareId(offer.shareId()));
        comesTo(owner, offer.shareId(), ShareStatus.DELETED);

        // refused
        OmicsException missing = refusal(() -> owner.getRun(r -> r.id("999999999")));
        OmicsException late = refusal(() -> owner.cancelRun(r -> r.id(run.id())));
        OmicsException wrong = refusal(() -> owner.getRun(r -> r.id("x")));
        boolean isTyped = missing instanceof ResourceNotFoundException && late instanceof ConflictException;

        System.out.println(json(Map.ofEntries(
            Map.entry("workflow", List.of(made.statusAsString(), workflow.statusAsString(), workflow.engineAsString(),
                workflow.tags(), List.copyOf(workflow.parameterTemplate().keySet()))),
            Map.entry("run", List.of(run.statusAsString(), run.name(), Map.of("name", run.parameters().asMap().get("name").asString()),
                run.workflowId().equals(made.id()), run.runOutputUri())),
            Map.entry("times", !run.startTime().isBefore(run.creationTime()) && !run.stopTime().isBefore(run.startTime())),
            Map.entry("tasks", tasks),
            Map.entry("runs", mine),
            Map.entry("pages_are_runs", runPages >= allRuns && allRuns >= 2),
            Map.entry("workflows", workflows),
            Map.entry("tagged", tagged),
            Map.entry("untagged", untagged),
            Map.entry("share", List.of(offer.statusAsString(), seen.statusAsString(), seen.name(), shares)),
            Map.entry("refused", List.of(hidden, exported, missing, late, wrong).stream()
                .map(error -> List.of(error.awsErrorDetails().errorCode(), error.statusCode())).toList()),
            Map.entry("typed", isTyped),
            Map.entry("message", missing.awsErrorDetails().errorMessage()))));
    }

    private static OmicsClient client(AwsCredentialsProvider credentials) {
        return OmicsClient.builder().credentialsProvider(credentials).overrideConfiguration(
            c -> c.putAdvancedOption(SdkAdvancedClientOption.DISABLE_HOST_PREFIX_INJECTION, true)).build();
    }

    private static String given(String name) {
        String value = System.getenv(name);
        if (value == null) {
            throw new IllegalStateException(name + " is not set");
        }
        return value;
    }

    private static OmicsException refusal(Runnable call) {
        try {
            call.run();
        } catch (OmicsException error) {
            return error;
        }
        throw new IllegalStateException("not refused");
    }

    private static void comesTo(OmicsClient client, String shareId, ShareStatus status) throws InterruptedException {
        while (client.getShare(r -> r.shareId(shareId)).share().status() != status) {
            Thread.sleep(50);
        }
    }

    private static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream().map(entry -> json(entry.getKey()) + ":" + json(entry.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
        }
        if (value instanceof List<?> list) {
            return list.stream().map(Life::json).collect(Collectors.joining(",", "[", "]"));
        }
        if (value instanceof String text) {
            return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
        }
        return String.valueOf(value);
    }
}
