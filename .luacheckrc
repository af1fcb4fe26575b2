std = "ngx_lua"
unused_args = false
redefined = false
max_line_length = 100
-- What a test expects is easier to read in one line.
files["test/lua*"] = { max_line_length = 110 }
-- Each test there has an ngx of its own.
files["test/lua-io"] = { globals = { "ngx" } }
-- A table, one line for each field.
files["lua-plugins/gateway/record/request_record.lua"] = { max_line_length = 115 }
