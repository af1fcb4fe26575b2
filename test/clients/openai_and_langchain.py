# Asks for a chat and a response, whole and streamed, with each client that docs/clients.md sets up.
import json

# SNIPPET openai-python
v1 = client
# SNIPPET openai-python-azure
azure = client
# SNIPPET langchain-python
langchain = model
# SNIPPET langchain-python-azure
langchain_azure = model

MESSAGES = [{"role": "user", "content": "Hello"}]


def said(step, text):
    print(json.dumps({"step": step, "text": text}), flush=True)


for name, each in [("openai", v1), ("azure", azure)]:
    whole = each.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    said(f"{name} chat", whole.choices[0].message.content)
    chunks = each.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    said(
        f"{name} chat stream",
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
    )
    whole = each.responses.create(model="gpt-4o", input="Hello")
    said(f"{name} response", whole.output_text)
    events = each.responses.create(model="gpt-4o", input="Hello", stream=True)
    said(
        f"{name} response stream",
        "".join(event.delta for event in events if event.type == "response.output_text.delta"),
    )

for name, each in [("langchain", langchain), ("langchain azure", langchain_azure)]:
    said(f"{name} chat", each.invoke("Hello").content)
    said(f"{name} chat stream", "".join(chunk.content for chunk in each.stream("Hello")))
