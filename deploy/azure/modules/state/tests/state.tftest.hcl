mock_provider "azurerm" {}

variables {
  resource_group_name  = "rg-genai-dev-we-state"
  location             = "westeurope"
  storage_account_name = "stgenaidevwe12345"
  state_principal_ids  = ["aaaaaaaa-0000-0000-0000-000000000001"]
}

run "access_is_by_entra_alone" {
  command = plan

  assert {
    condition     = !azurerm_storage_account.this.shared_access_key_enabled && !azurerm_storage_account.this.local_user_enabled && !azurerm_storage_account.this.allow_nested_items_to_be_public
    error_message = "No key, local user or anonymous caller may open the state."
  }
  assert {
    condition     = azurerm_storage_account.this.blob_properties[0].versioning_enabled && azurerm_storage_account.this.blob_properties[0].delete_retention_policy[0].days == 30
    error_message = "An overwritten or deleted state must be restorable for 30 days."
  }
  assert {
    condition     = length(azurerm_storage_account.this.network_rules) == 0
    error_message = "Without addresses the network is open."
  }
}

run "the_only_role_is_on_the_container" {
  command = apply

  override_resource {
    target = azurerm_storage_container.this
    values = { id = "/subscriptions/0/containers/tfstate" }
  }
  override_resource {
    target = azurerm_storage_account.this
    values = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/st" }
  }

  assert {
    condition = alltrue([
      for each in azurerm_role_assignment.state :
      each.scope == "/subscriptions/0/containers/tfstate" && each.role_definition_name == "Storage Blob Data Contributor"
    ]) && length(azurerm_role_assignment.state) == 1
    error_message = "Each principal has one role, on the container."
  }
}

run "addresses_close_the_network_to_others" {
  command = plan

  variables {
    allowed_public_ip_addresses = ["203.0.113.4", "198.51.100.0/24"]
  }

  assert {
    condition     = azurerm_storage_account.this.network_rules[0].default_action == "Deny" && length(azurerm_storage_account.this.network_rules[0].ip_rules) == 2
    error_message = "Only the addresses may reach the account."
  }
}

run "a_resource_group_can_be_brought_along" {
  command = plan

  variables {
    existing_resource_group_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-mine"
  }

  assert {
    condition     = length(azurerm_resource_group.this) == 0 && azurerm_storage_account.this.resource_group_name == "rg-mine"
    error_message = "The module must use the group that exists, and make none."
  }
}

run "values_are_validated" {
  command = plan

  variables {
    existing_resource_group_id  = "rg-mine"
    resource_group_name         = "rg."
    location                    = ""
    storage_account_name        = "st-genai"
    container_name              = "A"
    sa_replication_type         = "XRS"
    soft_delete_retention_days  = 0
    allowed_public_ip_addresses = ["203.0.113.4/32"]
    state_principal_ids         = []
    tags                        = { for n in range(51) : "t${n}" => "" }
  }

  expect_failures = [
    var.existing_resource_group_id, var.resource_group_name, var.location, var.storage_account_name, var.container_name,
    var.sa_replication_type, var.soft_delete_retention_days, var.allowed_public_ip_addresses, var.state_principal_ids, var.tags,
  ]
}
