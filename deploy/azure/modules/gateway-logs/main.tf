locals {
  # What the gateway sends, in the words of docs/apim-records.md; a test compares both.
  columns = jsondecode(file("${path.module}/columns.json"))
}

resource "azurerm_log_analytics_workspace_table_custom_log" "this" {
  name              = var.table_name
  workspace_id      = var.log_analytics_workspace_id
  description       = "One row for each request on the gateway's AI routes."
  retention_in_days = var.retention_days

  dynamic "column" {
    for_each = local.columns

    content {
      name = column.value.name
      # Tables and streams spell this type differently.
      type = column.value.type == "datetime" ? "dateTime" : column.value.type
    }
  }
}

resource "azurerm_monitor_data_collection_endpoint" "this" {
  name                = var.dce_name
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
  description         = "Takes the gateway's records of requests."
}

resource "azurerm_monitor_data_collection_rule" "this" {
  name                        = var.dcr_name
  resource_group_name         = var.resource_group_name
  location                    = var.location
  tags                        = var.tags
  description                 = "Brings the gateway's records of requests into their table."
  data_collection_endpoint_id = azurerm_monitor_data_collection_endpoint.this.id

  destinations {
    log_analytics {
      name                  = "workspace"
      workspace_resource_id = var.log_analytics_workspace_id
    }
  }

  data_flow {
    streams       = [var.stream_name]
    destinations  = ["workspace"]
    transform_kql = "source"
    output_stream = "Custom-${azurerm_log_analytics_workspace_table_custom_log.this.name}"
  }

  stream_declaration {
    stream_name = var.stream_name

    dynamic "column" {
      for_each = local.columns

      content {
        name = column.value.name
        type = column.value.type
      }
    }
  }
}
