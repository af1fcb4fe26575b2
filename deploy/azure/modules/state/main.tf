locals {
  # The provider's own resources take a name, users have the id.
  resource_group_name = var.existing_resource_group_id == null ? azurerm_resource_group.this[0].name : split("/", var.existing_resource_group_id)[4]
}

resource "azurerm_resource_group" "this" {
  count = var.existing_resource_group_id == null ? 1 : 0

  name     = var.resource_group_name
  location = var.location
  tags     = var.tags
}

# tflint-ignore: azurerm_resources_missing_prevent_destroy # Versions and soft delete protect the state; removing everything has to work.
resource "azurerm_storage_account" "this" {
  # checkov:skip=CKV_AZURE_43: The name is a variable, which is validated.
  # checkov:skip=CKV_AZURE_33: There are no queues.
  # checkov:skip=CKV_AZURE_35: The network is open unless allowed_public_ip_addresses is set, because the address of an operator or a runner changes. Keys are off, so access needs a role.
  # checkov:skip=CKV_AZURE_59: The same reason.
  # checkov:skip=CKV_AZURE_206: Replication is a variable, because it decides the cost.
  # checkov:skip=CKV2_AZURE_1: Keys of Microsoft encrypt the state. A key of one's own would need a vault before the first stack.
  # checkov:skip=CKV2_AZURE_33: A private endpoint would need a network before the first stack.
  # checkov:skip=CKV2_AZURE_41: Shared keys are off, and there is no SAS without them.

  name                = var.storage_account_name
  resource_group_name = local.resource_group_name
  location            = var.location
  tags                = var.tags

  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = upper(var.sa_replication_type)

  min_tls_version                   = "TLS1_2"
  https_traffic_only_enabled        = true
  infrastructure_encryption_enabled = true
  allow_nested_items_to_be_public   = false
  cross_tenant_replication_enabled  = false
  local_user_enabled                = false
  # Access is by Entra ID alone. The provider exports the account's keys nevertheless; they open nothing.
  shared_access_key_enabled       = false
  default_to_oauth_authentication = true

  blob_properties {
    versioning_enabled = true

    delete_retention_policy {
      days = var.soft_delete_retention_days
    }

    container_delete_retention_policy {
      days = var.soft_delete_retention_days
    }
  }

  dynamic "network_rules" {
    for_each = length(var.allowed_public_ip_addresses) > 0 ? [var.allowed_public_ip_addresses] : []

    content {
      default_action = "Deny"
      bypass         = ["AzureServices"]
      ip_rules       = network_rules.value
    }
  }
}

# tflint-ignore: azurerm_resources_missing_prevent_destroy # Versions and soft delete protect the state; removing everything has to work.
resource "azurerm_storage_container" "this" {
  # checkov:skip=CKV2_AZURE_21: Logs of reads of the state cost more than the state. Turn on Defender or a diagnostic setting where you need them.

  name                  = var.container_name
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

# Terraform locks the state by a lease on its blob, which this role allows.
resource "azurerm_role_assignment" "state" {
  for_each = var.state_principal_ids

  scope                = azurerm_storage_container.this.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = each.value
}
