local rendered_yaml = require("genai.util.rendered_yaml")
local json = require("json")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


local function read(text)
    return rendered_yaml.read(text, json.decode)
end


describe("the YAML that the compiler writes", function()
    it("is mappings and lists whose values are JSON", function()
        equal(read([[
# a comment
services:
  - id: "azure-openai"
    plugins:
      empty: {}
      more: {"a": [1, "b"], "c": true}
      weight: 0
      ratio: 0.25
      below: -3
      on_: true
      off_: false
      # another comment
      instances:
        - name: "a \"quoted\" one"
          override:
            endpoint: "http://a"
        - name: "b"
        - {"name": "c"}

routes:
  - "text"
  - 5
# genai-gateway client: {"name": "a"}
#END
]]), {
            services = { {
                id = "azure-openai",
                plugins = {
                    empty = {},
                    more = { a = { 1, "b" }, c = true },
                    weight = 0,
                    ratio = 0.25,
                    below = -3,
                    on_ = true,
                    off_ = false,
                    instances = {
                        { name = 'a "quoted" one', override = { endpoint = "http://a" } },
                        { name = "b" },
                        { name = "c" },
                    },
                },
            } },
            routes = { "text", 5 },
        })
    end)

    it("may be a list, and need not end with a line break", function()
        equal(read('- a: 1\n  b: "x"\n- a: 2'), { { a = 1, b = "x" }, { a = 2 } })
    end)

    it("may have text of any language, and escapes that JSON and YAML share", function()
        equal(read('a: "größer 日本 😀"\nb: "\\u00e9\\n\\t\\\\"\n'), { a = "größer 日本 😀", b = "é\n\t\\" })
    end)
end)


describe("YAML beyond that is left to another reader:", function()
    for what, text in pairs({
        ["nothing"] = "",
        ["comments only"] = "# a\n#END\n",
        ["a scalar"] = "text\n",
        ["an indented document"] = "  a: 1\n",
        ["a plain text"] = "a: text\n",
        ["a text in single quotes"] = "a: 'text'\n",
        ["a comment after a value"] = 'a: "b" # comment\n',
        ["a comment after a number"] = "a: 5 # comment\n",
        ["a key without a value"] = "a:\nb: 1\n",
        ["a key without a value at the end"] = "a:\n",
        ["a list on the indent of its key"] = "a:\n- 1\n",
        ["a deeper line after a value"] = "a: 1\n  b: 2\n",
        ["a line on no indent of the document"] = "a:\n    b: 1\n  c: 2\n",
        ["a key twice"] = "a: 1\na: 2\n",
        ["a key in quotes"] = '"a": 1\n',
        ["a key that YAML takes for a boolean"] = "yes: 1\n",
        ["a key that YAML takes for nothing"] = "Null: 1\n",
        ["a key that is a number"] = "1: 1\n",
        ["null"] = "a: null\n",
        ["null within JSON"] = "a: [null]\n",
        ["a number with a leading zero"] = "a: 012\n",
        ["a number with an exponent"] = "a: 1e3\n",
        ["a hexadecimal number"] = "a: 0x10\n",
        ["an anchor"] = "a: &b 1\n",
        ["an alias"] = "a: *b\n",
        ["a tag"] = "a: !!str 1\n",
        ["a block of text"] = "a: |\n  b\n",
        ["a merge"] = "<<: {}\n",
        ["a second document"] = "a: 1\n---\na: 2\n",
        ["an end of a document"] = "a: 1\n...\n",
        ["a directive"] = "%YAML 1.1\n",
        ["a tab"] = "a:\t1\n",
        ["a tab in a text"] = 'a: "b\tc"\n',
        ["a carriage return"] = "a: 1\r\n",
        ["JSON over several lines"] = "a: [\n  1]\n",
        ["JSON that is broken"] = "a: [1\n",
        ["an item without a space"] = "-1\n",
        ["a list in a list"] = "- - 1\n",
        ["an escaped slash"] = 'a: "b\\/c"\n',
        ["half of a surrogate pair"] = 'a: "\\ud83d\\ude00"\n',
        ["a line separator"] = 'a: "b\226\128\168c"\n',
        ["a next line"] = 'a: "b\194\133c"\n',
        ["a byte order mark"] = "\239\187\191a: 1\n",
        ["a byte order mark in a text"] = 'a: "\239\187\191"\n',
    }) do
        it(what, function()
            equal(read(text), nil)
        end)
    end
end)
