// Asks for a chat and a response, whole and streamed, with each client that docs/clients.md sets up.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/azure"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

func v1() openai.Client {
	// SNIPPET openai-go
	return client
}

func classic() openai.Client {
	// SNIPPET openai-go-azure
	return client
}

func said(step string, text string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", step, err)
	}
	line, _ := json.Marshal(map[string]string{"step": step, "text": text})
	fmt.Println(string(line))
}

func ask(name string, client openai.Client) {
	background := context.Background()
	chat := openai.ChatCompletionNewParams{
		Model:    "gpt-4o",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello")},
	}
	whole, err := client.Chat.Completions.New(background, chat)
	if err != nil {
		log.Fatalf("%s chat: %v", name, err)
	}
	said(name+" chat", whole.Choices[0].Message.Content, nil)

	var text strings.Builder
	chunks := client.Chat.Completions.NewStreaming(background, chat)
	for chunks.Next() {
		for _, choice := range chunks.Current().Choices {
			text.WriteString(choice.Delta.Content)
		}
	}
	said(name+" chat stream", text.String(), chunks.Err())

	request := responses.ResponseNewParams{
		Model: "gpt-4o",
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Hello")},
	}
	response, err := client.Responses.New(background, request)
	if err != nil {
		log.Fatalf("%s response: %v", name, err)
	}
	said(name+" response", response.OutputText(), nil)

	text.Reset()
	events := client.Responses.NewStreaming(background, request)
	for events.Next() {
		if event := events.Current(); event.Type == "response.output_text.delta" {
			text.WriteString(event.Delta)
		}
	}
	said(name+" response stream", text.String(), events.Err())
}

func main() {
	ask("openai", v1())
	ask("azure", classic())
}
