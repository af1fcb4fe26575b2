# The rest is in the file that the output backend_snippet of 00-bootstrap has, with the key of this stack:
# terraform init -backend-config=backend.hcl
terraform {
  backend "azurerm" {
    use_azuread_auth = true
  }
}
