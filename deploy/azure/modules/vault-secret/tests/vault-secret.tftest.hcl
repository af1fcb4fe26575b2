mock_provider "azurerm" {}

# Mocked providers have no ephemeral resources. This one is real, and is never called: the plan does not know the resource.
provider "azapi" {
  subscription_id = "00000000-0000-0000-0000-000000000000"
  tenant_id       = "11111111-1111-1111-1111-111111111111"
}

variables {
  name          = "key"
  key_vault_id  = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/kv"
  resource_type = "Microsoft.Cache/redisEnterprise/databases@2025-07-01"
  resource_id   = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.Cache/redisEnterprise/amr/databases/default"
  value_path    = "primaryKey"
}

run "the_secret_is_planned_without_a_value" {
  command = plan
  variables {
    value_version = 2
  }
  assert {
    condition     = azurerm_key_vault_secret.this.value_wo == null && azurerm_key_vault_secret.this.value == null && azurerm_key_vault_secret.this.value_wo_version == 2
    error_message = "The plan has the version of the value, and no value."
  }
  assert {
    condition     = output.name == "key"
    error_message = "The secret has the name that was asked for."
  }
}

run "a_wrong_name_is_refused" {
  command = plan
  variables {
    name = "GATEWAY_KEY"
  }
  expect_failures = [var.name]
}

run "something_else_than_a_vault_is_refused" {
  command = plan
  variables {
    key_vault_id = "kv"
  }
  expect_failures = [var.key_vault_id]
}

run "a_type_without_a_version_is_refused" {
  command = plan
  variables {
    resource_type = "Microsoft.Insights/components"
  }
  expect_failures = [var.resource_type]
}

run "something_else_than_a_resource_is_refused" {
  command = plan
  variables {
    resource_id = "appi"
  }
  expect_failures = [var.resource_id]
}

run "a_wrong_action_is_refused" {
  command = plan
  variables {
    action = "list/keys"
  }
  expect_failures = [var.action]
}

run "an_empty_path_is_refused" {
  command = plan
  variables {
    value_path = ""
  }
  expect_failures = [var.value_path]
}

run "a_version_of_zero_is_refused" {
  command = plan
  variables {
    value_version = 0
  }
  expect_failures = [var.value_version]
}
