std = "ngx_lua"
unused_args = false
redefined = false
max_line_length = 100
