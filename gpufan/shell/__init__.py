"""What makes gpufan at home in a shell: manual pages and completion, both made from the commands themselves."""
