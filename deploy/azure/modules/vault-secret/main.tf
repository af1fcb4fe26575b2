# Copies a credential that Azure made into a vault. The value is ephemeral and write-only: it is in no plan and no state.

# Its output is not known before the first apply, so the first plan reads no credential: it needs no right to, and a test
# with mocked providers can make it.
resource "terraform_data" "source" {
  input = var.resource_id
}

ephemeral "azapi_resource_action" "credential" {
  type        = var.resource_type
  resource_id = terraform_data.source.output
  action      = var.action
  method      = var.action == "" ? "GET" : "POST"

  response_export_values = { value = var.value_path }
}

# tflint-ignore: azurerm_resources_missing_prevent_destroy # The resource still has the credential, and the vault keeps what is deleted.
resource "azurerm_key_vault_secret" "this" {
  # checkov:skip=CKV_AZURE_41:Azure's credential does not expire. A date here would stop the gateway on that day.
  name             = var.name
  key_vault_id     = var.key_vault_id
  content_type     = "text/plain"
  value_wo         = ephemeral.azapi_resource_action.credential.output.value
  value_wo_version = var.value_version
  tags             = var.tags

  lifecycle {
    # A resource that was made again has another credential.
    replace_triggered_by = [terraform_data.source]
  }
}
