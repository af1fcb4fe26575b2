terraform {
  # 1.11 is the first version with write-only arguments.
  required_version = ">= 1.11, < 2"

  required_providers {
    # azurerm has no ephemeral resource that reads keys of a resource.
    azapi = {
      source  = "Azure/azapi"
      version = "~> 2.12"
    }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.2"
    }
  }
}
