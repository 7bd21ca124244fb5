from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('annotation', '0008_imported_rounds'),
    ]

    operations = [
        migrations.AlterField(
            model_name='samplingevent',
            name='reason',
            field=models.CharField(choices=[('empty', 'Empty'), ('identical', 'Identical'), ('near_identical', 'Near Identical'), ('truncated', 'Truncated'), ('holds_tag', 'Holds Tag'), ('names_itself', 'Names Itself'), ('replaced', 'Replaced'), ('error', 'Error')], max_length=14),
        ),
    ]
