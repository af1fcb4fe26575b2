import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.responses.ResponseCreateParams;
import java.util.stream.Collectors;

/** Asks for a chat and a response, whole and streamed, with the client that docs/clients.md sets up. */
public class Main {
    static OpenAIClient openai() {
        // SNIPPET openai-java
        return client;
    }

    static void said(String step, String text) {
        System.out.println("{\"step\": \"" + step + "\", \"text\": \"" + text + "\"}");
    }

    public static void main(String[] arguments) {
        OpenAIClient client = openai();
        ChatCompletionCreateParams chat =
            ChatCompletionCreateParams.builder().model("gpt-4o").addUserMessage("Hello").build();
        said("openai chat", client.chat().completions().create(chat).choices().get(0).message().content().orElse(""));
        try (var chunks = client.chat().completions().createStreaming(chat)) {
            said("openai chat stream", chunks.stream()
                .flatMap(chunk -> chunk.choices().stream())
                .map(choice -> choice.delta().content().orElse(""))
                .collect(Collectors.joining()));
        }
        ResponseCreateParams request = ResponseCreateParams.builder().model("gpt-4o").input("Hello").build();
        said("openai response", client.responses().create(request).output().stream()
            .flatMap(item -> item.message().stream())
            .flatMap(message -> message.content().stream())
            .flatMap(content -> content.outputText().stream())
            .map(text -> text.text())
            .collect(Collectors.joining()));
        try (var events = client.responses().createStreaming(request)) {
            said("openai response stream", events.stream()
                .flatMap(event -> event.outputTextDelta().stream())
                .map(delta -> delta.delta())
                .collect(Collectors.joining()));
        }
        client.close();
    }
}
