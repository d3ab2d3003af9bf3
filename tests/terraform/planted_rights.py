"""Planted errors of rights, accounts and secrets, and of the order in which things are created."""

from __future__ import annotations

from tests.terraform.planted import Planted

GRANTS = {
    "values(google_secret_manager_secret_iam_member.accessor)": "secrets that a function cannot read yet",
    "values(google_project_iam_member.ledger)": "a ledger that a function cannot reach yet",
    "values(google_project_iam_member.build)": "a builder without a log yet",
    "[google_storage_bucket_iam_member.build_reads_source]": "a source that cannot be read yet",
    "[google_artifact_registry_repository_iam_member.build_writes_images]": "a repository that cannot be written yet",
    "values(google_artifact_registry_repository_iam_member.agent_reads_images)": "images that Google cannot read yet",
    "values(google_storage_bucket_iam_member.images)": "a bucket that a function cannot use yet",
    "values(google_service_account_iam_member.signs_as_itself)": "addresses that cannot be signed yet",
    "values(google_service_account_iam_member.deploy_acts_as)": "accounts that the deployer cannot act as yet",
    "values(google_project_iam_member.deploy)": "a deployer without its roles yet",
}
"""What functions wait for before they are created -> what goes wrong without."""

ORDERS = [
    *(
        Planted(
            name,
            "iam.tf",
            f"    {grants},\n",
            "    [],\n",
            f"orders: terraform_data.rights_spread does not wait for {grants.strip('[]()').removeprefix('values(')}",
        )
        for grants, name in GRANTS.items()
    ),
    Planted(
        "functions that do not wait for rights and APIs",
        "functions.tf",
        "depends_on = [google_project_service.api, terraform_data.rights_spread]",
        "depends_on = []",
        r"orders: google_cloudfunctions2_function.function does not wait for (terraform_data.rights_spread|every API)",
    ),
    Planted(
        "a grant to an account that does not exist yet",
        "build.tf",
        "depends_on = [terraform_data.agents_exist]",
        "depends_on = []",
        r"orders: google_artifact_registry_repository_iam_member.agent_reads_images does not wait for terraform_data",
    ),
    Planted(
        "service agents whose API is not enabled yet",
        "apis.tf",
        "  depends_on = [google_project_service.api]\n",
        "",
        r"orders: terraform_data.agents_exist does not wait for every API",
    ),
    Planted(
        "an alert on a metric that does not exist yet",
        "monitoring.tf",
        '["monitoring.googleapis.com"], google_cloudfunctions2_function.function]',
        '["monitoring.googleapis.com"]]',
        r"orders: google_monitoring_alert_policy.alert does not wait for google_cloudfunctions2_function.function",
    ),
]

RIGHTS = [
    Planted(
        "a secret in the state",
        "secrets.tf",
        "",
        'resource "google_secret_manager_secret_version" "admin" {\n'
        '  secret      = google_secret_manager_secret.secret["ADMIN_API_KEY"].id\n'
        '  secret_data = "a-key"\n}',
        r"secrets: a value is in the state",
    ),
    Planted(
        "a secret that a function may not read",
        "secrets.tf",
        "secret = secret } }\n",
        'secret = secret } } if name != "batch"\n',
        r"secrets: batch may read \[\]",
    ),
    Planted(
        "a data key for a function without accounts",
        "functions.tf",
        'contains(manifest.secrets, "GEMINI_API_KEY") ? var.secret_settings',
        "true ? var.secret_settings",
        r"secrets: (console|health|image) may read \[.*accounts-data-key.*\]",
    ),
    Planted(
        "secrets of other functions",
        "secrets.tf",
        "",
        'resource "google_secret_manager_secret_iam_member" "other" {\n  secret_id = "of-somebody-else"\n'
        '  role      = "roles/secretmanager.secretAccessor"\n  member    = google_service_account.function["health"].member\n}',
        r"secrets: health may read \[.*'of-somebody-else'\]",
    ),
    Planted(
        "a deployer that cannot act as itself",
        "deploy.tf",
        ', deploy = google_service_account.deploy["deploy"].name }',
        " }",
        r"deployer: it does not have roles/iam.serviceAccountUser on projects/demo-project/serviceAccounts/gemini-deploy@",
    ),
    Planted(
        "a deployer that reads every secret",
        "deploy.tf",
        "/secrets/${var.name_prefix}-",
        "/secrets/",
        r"deployer: roles/secretmanager.admin is not confined",
    ),
    Planted(
        "a deployer that reads every bucket",
        "deploy.tf",
        "buckets/${var.project_id}-${var.name_prefix}-",
        "buckets/",
        r"deployer: roles/storage.admin is not confined",
    ),
    Planted(
        "a deployer that cannot test private functions",
        "deploy.tf",
        "roles/iam.serviceAccountOpenIdTokenCreator",
        "roles/iam.serviceAccountViewer",
        r"deployer: it does not have roles/iam.serviceAccountOpenIdTokenCreator on .*gemini-deploy@",
    ),
    Planted(
        "a function that owns every database",
        "iam.tf",
        'write = "roles/datastore.user" }',
        'write = "roles/datastore.owner" }',
        r"accounts: chat has \[\('roles/datastore.owner'",
    ),
    Planted(
        "a push that runs with the deployer's rights",
        "deploy.tf",
        'approval = false, account = google_service_account.plan["plan"].id',
        'approval = false, account = google_service_account.deploy["deploy"].id',
        r"unapproved: the trigger plan runs as gemini-deploy@",
    ),
    Planted(
        "a push that may change the project",
        "deploy.tf",
        '"roles/iam.securityReviewer", "roles/logging.logWriter"])',
        '"roles/iam.securityReviewer", "roles/logging.logWriter", "roles/run.admin"])',
        r"unapproved: a push has roles/run.admin on the project",
    ),
    Planted(
        "a push that may read a key",
        "deploy.tf",
        "",
        'resource "google_secret_manager_secret_iam_member" "plan" {\n'
        '  secret_id = google_secret_manager_secret.secret["ADMIN_API_KEY"].secret_id\n'
        '  role      = "roles/secretmanager.secretAccessor"\n  member    = google_service_account.plan["plan"].member\n}',
        r"unapproved: a push has roles/secretmanager.secretAccessor",
    ),
    Planted(
        "a push that replaces plans",
        "deploy.tf",
        "roles/storage.objectCreator",
        "roles/storage.objectUser",
        r"unapproved: a push has roles/storage.objectUser on demo-project-terraform-state",
    ),
    Planted(
        "a push that writes the state",
        "deploy.tf",
        "/objects/plans/",
        "/objects/",
        r"unapproved: a push has roles/storage.object\w+ on demo-project-terraform-state .*/objects/\\?\"\)",
    ),
    Planted(
        "a push that acts as the deployer",
        "deploy.tf",
        "",
        'resource "google_service_account_iam_member" "plan" {\n'
        '  service_account_id = google_service_account.deploy["deploy"].name\n'
        '  role               = "roles/iam.serviceAccountTokenCreator"\n'
        '  member             = google_service_account.plan["plan"].member\n}',
        r"unapproved: a push has roles/iam.serviceAccountTokenCreator",
    ),
    Planted(
        "a ledger that is not the gateway's alone",
        "iam.tf",
        'expression = "resource.name == \\"${local.gateway_database}\\""',
        'expression = "true"',
        r"accounts: health has .*'true'.* not \[\('roles/datastore.viewer', \['resource.name == ",
    ),
    Planted(
        "a right that a reading function does not need",
        "iam.tf",
        'read = "roles/datastore.viewer", write',
        'read = "roles/datastore.user", write',
        r"accounts: health has \[\('roles/datastore.user'.*says store read",
    ),
    Planted(
        "a builder that may do everything",
        "build.tf",
        '"roles/logging.logWriter"    = null',
        '"roles/editor" = null',
        r"accounts: serviceAccount:gemini-build@\S+ has roles/editor",
    ),
    Planted(
        "callers who may change the function",
        "iam.tf",
        '"roles/run.invoker"',
        '"roles/run.admin"',
        r"invokers: allUsers has roles/run.admin on gemini-health",
    ),
    Planted(
        "a function that nobody may call",
        "iam.tf",
        "=> { function = name, member = member } }\n",
        '=> { function = name, member = member } } if name != "chat"\n',
        r"invokers: nobody may call \['gemini-chat'\]",
    ),
    Planted(
        "a function that signs what it does not hand out",
        "iam.tf",
        "[local.image_function] : []",
        "keys(local.functions) : []",
        r"buckets: \[.*'chat'.*\] may sign as themselves, \['image'\] hands out signed addresses",
    ),
]
